  ;; Serialized pairs, as the ABI has them: count, then (key size, value size) each, then key NUL value NUL each.

  ;; Whether the bytes at $pairs in $host are exactly one list of pairs, as strictly as Python reads them.
  (func $pairs_are_sound (param $pairs i32) (param $size i32) (result i32)
    (local $place i32)
    (local $text i64)
    (local $end i64)
    (if (i32.lt_u (local.get $size) (i32.const 4)) (then (return (i32.const 0))))
    (if (i32.gt_u (local.get $size) (i32.const %PAIRS_MAX_BYTES%)) (then (return (i32.const 0))))
    (if (i32.gt_u (i32.load $host (local.get $pairs)) (i32.const %PAIRS_MAX%)) (then (return (i32.const 0))))
    (local.set $end (i64.extend_i32_u (i32.add (local.get $pairs) (local.get $size))))
    (local.set $place (i32.add (local.get $pairs) (i32.const 4)))
    (local.set $text
      (i64.extend_i32_u
        (i32.add (local.get $place) (i32.shl (i32.load $host (local.get $pairs)) (i32.const 3)))))
    (if (i64.gt_u (local.get $text) (local.get $end)) (then (return (i32.const 0))))
    ;; The first string begins where the sizes end.
    (local.set $size (i32.wrap_i64 (local.get $text)))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $place) (local.get $size)))
        (local.set $text
          (i64.add (local.get $text) (i64.extend_i32_u (i32.load $host (local.get $place)))))
        (if (i64.ge_u (local.get $text) (local.get $end)) (then (return (i32.const 0))))
        (if (i32.load8_u $host (i32.wrap_i64 (local.get $text))) (then (return (i32.const 0))))
        (local.set $text (i64.add (local.get $text) (i64.const 1)))
        (local.set $place (i32.add (local.get $place) (i32.const 4)))
        (br $next)))
    (i64.eq (local.get $text) (local.get $end)))

  ;; Writes one entry (key, key size, value, value size) a pair to $table; the pairs are sound.
  (func $index_pairs (param $pairs i32) (param $table i32)
    (local $count i32)
    (local $place i32)
    (local $text i32)
    (local.set $count (i32.load $host (local.get $pairs)))
    (local.set $place (i32.add (local.get $pairs) (i32.const 4)))
    (local.set $text (i32.add (local.get $place) (i32.shl (local.get $count) (i32.const 3))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (i32.store $host (local.get $table) (local.get $text))
        (i32.store $host offset=4 (local.get $table) (i32.load $host (local.get $place)))
        (local.set $text
          (i32.add (local.get $text) (i32.add (i32.load $host (local.get $place)) (i32.const 1))))
        (i32.store $host offset=8 (local.get $table) (local.get $text))
        (i32.store $host offset=12 (local.get $table) (i32.load $host offset=4 (local.get $place)))
        (local.set $text
          (i32.add (local.get $text) (i32.add (i32.load $host offset=4 (local.get $place)) (i32.const 1))))
        (local.set $table (i32.add (local.get $table) (i32.const 16)))
        (local.set $place (i32.add (local.get $place) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next))))

  ;; Bytes that the entries of $table take as serialized pairs.
  (func $pairs_size (param $table i32) (param $count i32) (result i32)
    (local $size i32)
    (local.set $size (i32.const 4))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $size
          (i32.add
            (i32.add (local.get $size) (i32.const 10))
            (i32.add (i32.load $host offset=4 (local.get $table)) (i32.load $host offset=12 (local.get $table)))))
        (local.set $table (i32.add (local.get $table) (i32.const 16)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next)))
    (local.get $size))

  ;; Writes the entries of $table as serialized pairs to $target in $guest; the range was checked.
  (func $write_pairs (param $table i32) (param $count i32) (param $target i32)
    (local $place i32)
    (local $text i32)
    (local $size i32)
    (i32.store $guest (local.get $target) (local.get $count))
    (local.set $place (i32.add (local.get $target) (i32.const 4)))
    (local.set $text (i32.add (local.get $place) (i32.shl (local.get $count) (i32.const 3))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $count)))
        (local.set $size (i32.load $host offset=4 (local.get $table)))
        (i32.store $guest (local.get $place) (local.get $size))
        (memory.copy $guest $host (local.get $text) (i32.load $host (local.get $table)) (local.get $size))
        (local.set $text (i32.add (local.get $text) (local.get $size)))
        (i32.store8 $guest (local.get $text) (i32.const 0))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $size (i32.load $host offset=12 (local.get $table)))
        (i32.store $guest offset=4 (local.get $place) (local.get $size))
        (memory.copy $guest $host (local.get $text) (i32.load $host offset=8 (local.get $table)) (local.get $size))
        (local.set $text (i32.add (local.get $text) (local.get $size)))
        (i32.store8 $guest (local.get $text) (i32.const 0))
        (local.set $text (i32.add (local.get $text) (i32.const 1)))
        (local.set $table (i32.add (local.get $table) (i32.const 16)))
        (local.set $place (i32.add (local.get $place) (i32.const 8)))
        (local.set $count (i32.sub (local.get $count) (i32.const 1)))
        (br $next))))
