"""Kubernetes: the client that everything in the kit uses, and the embedded API server."""
