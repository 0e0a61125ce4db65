"""The article's claims and the kit's own speed, as measurements that anyone can repeat."""
