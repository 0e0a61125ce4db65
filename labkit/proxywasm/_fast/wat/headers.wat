  ;; Header maps. The simple cases are answered here: a map that is present, a lower-case name, at most one value.
  ;; Whatever is unusual goes to Python before anything was changed, so that its rules hold everywhere.

  ;; The record of a map that may be used so (%READ%, %WRITE%), its pairs indexed; 0 otherwise.
  (func $open_map (param $map i32) (param $access i32) (result i32)
    (local $record i32)
    (local $table i32)
    (local $pairs i32)
    (local $room i32)
    (if (i32.load $host (i32.const %BUSY%)) (then (return (i32.const 0))))
    (if (i32.ge_u (local.get $map) (i32.const %MAP_COUNT%)) (then (return (i32.const 0))))
    (local.set $record (i32.add (i32.const %MAPS%) (i32.mul (local.get $map) (i32.const %MAP_SIZE%))))
    (if (i32.eqz (i32.and (i32.load $host offset=%MAP_ACCESS% (local.get $record)) (local.get $access)))
      (then (return (i32.const 0))))
    (if (i32.load $host offset=%MAP_TABLE% (local.get $record)) (then (return (local.get $record))))
    (local.set $pairs (i32.load $host offset=%MAP_PAIRS% (local.get $record)))
    (if (i32.eqz (local.get $pairs)) (then (return (i32.const 0))))
    (local.set $room (i32.add (i32.load $host (local.get $pairs)) (i32.const %MAP_SPARE%)))
    (local.set $table (call $reserve (i32.mul (local.get $room) (i32.const 16))))
    (if (i32.eqz (local.get $table)) (then (return (i32.const 0))))
    (call $index_pairs (local.get $pairs) (local.get $table))
    (i32.store $host offset=%MAP_TABLE% (local.get $record) (local.get $table))
    (i32.store $host offset=%MAP_ENTRIES% (local.get $record) (i32.load $host (local.get $pairs)))
    (i32.store $host offset=%MAP_ROOM% (local.get $record) (local.get $room))
    (local.get $record))

  ;; The first entry of a name; 0 when there is none.
  (func $find (param $record i32) (param $key i32) (param $key_size i32) (result i32)
    (local $entry i32)
    (local $end i32)
    (local.set $entry (i32.load $host offset=%MAP_TABLE% (local.get $record)))
    (local.set $end
      (i32.add
        (local.get $entry)
        (i32.shl (i32.load $host offset=%MAP_ENTRIES% (local.get $record)) (i32.const 4))))
    (block $none
      (loop $next
        (br_if $none (i32.eq (local.get $entry) (local.get $end)))
        (if (i32.eq (i32.load $host offset=4 (local.get $entry)) (local.get $key_size))
          (then
            (if (call $same (i32.load $host (local.get $entry)) (local.get $key) (local.get $key_size))
              (then (return (local.get $entry))))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (br $next)))
    (i32.const 0))

  ;; Whether a name is one that Python would look up byte for byte: no capitals, and not `host`, which is an alias.
  (func $is_plain_name (param $key i32) (param $size i32) (result i32)
    (local $byte i32)
    (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
    (if (i32.eq (local.get $size) (i32.const 4))
      (then
        (if (i32.eq (i32.load $guest (local.get $key)) (i32.const 0x74736f68)) (then (return (i32.const 0))))))
    (loop $next
      (local.set $byte (i32.load8_u $guest (local.get $key)))
      (if (i32.or
            (i32.lt_u (i32.sub (local.get $byte) (i32.const 0x41)) (i32.const 26))
            (i32.gt_u (i32.sub (local.get $byte) (i32.const 0x21)) (i32.const 0x5d)))
        (then (return (i32.const 0))))
      (local.set $key (i32.add (local.get $key) (i32.const 1)))
      (local.set $size (i32.sub (local.get $size) (i32.const 1)))
      (br_if $next (local.get $size)))
    (i32.const 1))

  ;; Whether a value is visible ASCII, spaces and tabs, without white space at its ends.
  (func $is_plain_value (param $value i32) (param $size i32) (result i32)
    (local $byte i32)
    (if (i32.eqz (local.get $size)) (then (return (i32.const 0))))
    (if (i32.le_u (i32.load8_u $guest (local.get $value)) (i32.const 0x20)) (then (return (i32.const 0))))
    (loop $next
      (local.set $byte (i32.load8_u $guest (local.get $value)))
      (if (i32.gt_u (i32.sub (local.get $byte) (i32.const 0x20)) (i32.const 0x5e))
        (then
          (if (i32.ne (local.get $byte) (i32.const 9)) (then (return (i32.const 0))))))
      (local.set $value (i32.add (local.get $value) (i32.const 1)))
      (local.set $size (i32.sub (local.get $size) (i32.const 1)))
      (br_if $next (local.get $size)))
    (i32.gt_u (local.get $byte) (i32.const 0x20)))

  (func $mark_changed (param $record i32)
    (i32.store $host offset=%MAP_CHANGED% (local.get $record) (i32.const 1))
    (i32.store $host (i32.const %MAPS_CHANGED%) (i32.const 1))
    (i32.store $host (i32.const %CHANGED%) (i32.const 1)))

  (func $proxy_get_header_map_value
    (param $map i32) (param $key i32) (param $key_size i32) (param $value_at i32) (param $size_at i32) (result i32)
    (local $record i32)
    (local $entry i32)
    (block $python
      (local.set $record (call $open_map (local.get $map) (i32.const %READ%)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python (i32.eqz (call $in_guest (local.get $key) (local.get $key_size))))
      (br_if $python (i32.eqz (call $out_in_guest (local.get $value_at) (local.get $size_at))))
      (local.set $entry (call $find (local.get $record) (local.get $key) (local.get $key_size)))
      (if (i32.eqz (local.get $entry))
        (then
          (br_if $python (i32.eqz (i32.load $host (i32.const %ANSWERS_NOT_FOUND%))))
          (br_if $python (i32.eqz (call $is_plain_name (local.get $key) (local.get $key_size))))
          (return (i32.const %NOT_FOUND%))))
      (br_if $python (i32.eqz (i32.load $host offset=12 (local.get $entry))))
      (br_if $python
        (i32.eqz
          (call $answer
            (i32.load $host offset=8 (local.get $entry))
            (i32.load $host offset=12 (local.get $entry))
            (local.get $value_at)
            (local.get $size_at))))
      (return (i32.const %OK%)))
    (call $python_proxy_get_header_map_value
      (local.get $map) (local.get $key) (local.get $key_size) (local.get $value_at) (local.get $size_at)))

  (func $proxy_get_header_map_pairs (param $map i32) (param $pairs_at i32) (param $size_at i32) (result i32)
    (local $record i32)
    (local $size i32)
    (local $address i32)
    (block $python
      (local.set $record (call $open_map (local.get $map) (i32.const %READ%)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python (i32.eqz (call $out_in_guest (local.get $pairs_at) (local.get $size_at))))
      (br_if $python (i32.eqz (i32.load $host offset=%MAP_ENTRIES% (local.get $record))))
      (if (i32.eqz (i32.load $host offset=%MAP_CHANGED% (local.get $record)))
        (then
          (br_if $python
            (i32.eqz
              (call $answer
                (i32.load $host offset=%MAP_PAIRS% (local.get $record))
                (i32.load $host offset=%MAP_BYTES% (local.get $record))
                (local.get $pairs_at)
                (local.get $size_at))))
          (return (i32.const %OK%))))
      (local.set $size
        (call $pairs_size
          (i32.load $host offset=%MAP_TABLE% (local.get $record))
          (i32.load $host offset=%MAP_ENTRIES% (local.get $record))))
      (local.set $address (call $allocate_answer (local.get $size)))
      (br_if $python (i32.eqz (local.get $address)))
      (call $write_pairs
        (i32.load $host offset=%MAP_TABLE% (local.get $record))
        (i32.load $host offset=%MAP_ENTRIES% (local.get $record))
        (local.get $address))
      (i32.store $guest (local.get $pairs_at) (local.get $address))
      (i32.store $guest (local.get $size_at) (local.get $size))
      (return (i32.const %OK%)))
    (call $python_proxy_get_header_map_pairs (local.get $map) (local.get $pairs_at) (local.get $size_at)))

  (func $proxy_get_header_map_size (param $map i32) (param $size_at i32) (result i32)
    (local $record i32)
    (local $entry i32)
    (local $end i32)
    (local $size i32)
    (block $python
      (local.set $record (call $open_map (local.get $map) (i32.const %WRITE%)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python (i32.eqz (call $in_guest (local.get $size_at) (i32.const 4))))
      (local.set $entry (i32.load $host offset=%MAP_TABLE% (local.get $record)))
      (local.set $end
        (i32.add
          (local.get $entry)
          (i32.shl (i32.load $host offset=%MAP_ENTRIES% (local.get $record)) (i32.const 4))))
      (block $done
        (loop $next
          (br_if $done (i32.eq (local.get $entry) (local.get $end)))
          (local.set $size
            (i32.add
              (local.get $size)
              (i32.add (i32.load $host offset=4 (local.get $entry)) (i32.load $host offset=12 (local.get $entry)))))
          (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
          (br $next)))
      (i32.store $guest (local.get $size_at) (local.get $size))
      (return (i32.const %OK%)))
    (call $python_proxy_get_header_map_size (local.get $map) (local.get $size_at)))

  ;; The record of a map to be changed by this name and value, when both are plain; 0 otherwise.
  (func $open_for_value
    (param $map i32) (param $key i32) (param $key_size i32) (param $value i32) (param $size i32) (result i32)
    (if (i32.eqz (call $in_guest (local.get $key) (local.get $key_size))) (then (return (i32.const 0))))
    (if (i32.eqz (call $in_guest (local.get $value) (local.get $size))) (then (return (i32.const 0))))
    (if (i32.eqz (call $is_plain_name (local.get $key) (local.get $key_size))) (then (return (i32.const 0))))
    (if (i32.eqz (call $is_plain_value (local.get $value) (local.get $size))) (then (return (i32.const 0))))
    (call $open_map (local.get $map) (i32.const %WRITE%)))

  ;; The place where Python's header maps put a new name: pseudo-headers after the others of their kind, the rest last.
  (func $place_of (param $record i32) (param $key i32) (result i32)
    (local $entry i32)
    (local $end i32)
    (local.set $entry (i32.load $host offset=%MAP_TABLE% (local.get $record)))
    (local.set $end
      (i32.add
        (local.get $entry)
        (i32.shl (i32.load $host offset=%MAP_ENTRIES% (local.get $record)) (i32.const 4))))
    (if (i32.ne (i32.load8_u $guest (local.get $key)) (i32.const 0x3a)) (then (return (local.get $end))))
    (block $found
      (loop $next
        (br_if $found (i32.eq (local.get $entry) (local.get $end)))
        (br_if $found (i32.ne (i32.load8_u $host (i32.load $host (local.get $entry))) (i32.const 0x3a)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (br $next)))
    (local.get $entry))

  ;; Moves the entries from $from up to the end of the map to $to, and sets how many there are.
  (func $move_entries (param $record i32) (param $from i32) (param $to i32)
    (local $end i32)
    (local.set $end
      (i32.add
        (i32.load $host offset=%MAP_TABLE% (local.get $record))
        (i32.shl (i32.load $host offset=%MAP_ENTRIES% (local.get $record)) (i32.const 4))))
    (memory.copy $host $host (local.get $to) (local.get $from) (i32.sub (local.get $end) (local.get $from)))
    (i32.store $host offset=%MAP_ENTRIES% (local.get $record)
      (i32.add
        (i32.load $host offset=%MAP_ENTRIES% (local.get $record))
        (i32.shr_s (i32.sub (local.get $to) (local.get $from)) (i32.const 4))))
    (call $mark_changed (local.get $record)))

  (func $remove_all (param $record i32) (param $key i32) (param $key_size i32)
    (local $entry i32)
    (block $done
      (loop $next
        (local.set $entry (call $find (local.get $record) (local.get $key) (local.get $key_size)))
        (br_if $done (i32.eqz (local.get $entry)))
        (call $move_entries (local.get $record) (i32.add (local.get $entry) (i32.const 16)) (local.get $entry))
        (br $next))))

  ;; Adds a header, in place of those of its name when $replace is set; 0, and nothing changed, when there is no room.
  (func $insert
    (param $record i32) (param $key i32) (param $key_size i32) (param $value i32) (param $size i32)
    (param $replace i32) (result i32)
    (local $entry i32)
    (local $name i32)
    (local $text i32)
    (if (i32.ge_u
          (i32.load $host offset=%MAP_ENTRIES% (local.get $record))
          (i32.load $host offset=%MAP_ROOM% (local.get $record)))
      (then (return (i32.const 0))))
    (local.set $name (call $keep (local.get $key) (local.get $key_size)))
    (if (i32.eqz (local.get $name)) (then (return (i32.const 0))))
    (local.set $text (call $keep (local.get $value) (local.get $size)))
    (if (i32.eqz (local.get $text)) (then (return (i32.const 0))))
    (if (local.get $replace)
      (then (call $remove_all (local.get $record) (local.get $key) (local.get $key_size))))
    (local.set $entry (call $place_of (local.get $record) (local.get $key)))
    (call $move_entries (local.get $record) (local.get $entry) (i32.add (local.get $entry) (i32.const 16)))
    (i32.store $host (local.get $entry) (local.get $name))
    (i32.store $host offset=4 (local.get $entry) (local.get $key_size))
    (i32.store $host offset=8 (local.get $entry) (local.get $text))
    (i32.store $host offset=12 (local.get $entry) (local.get $size))
    (i32.const 1))

  (func $proxy_add_header_map_value
    (param $map i32) (param $key i32) (param $key_size i32) (param $value i32) (param $size i32) (result i32)
    (local $record i32)
    (block $python
      (local.set $record
        (call $open_for_value
          (local.get $map) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python (call $find (local.get $record) (local.get $key) (local.get $key_size)))
      (br_if $python
        (i32.eqz
          (call $insert
            (local.get $record) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)
            (i32.const 0))))
      (return (i32.const %OK%)))
    (call $python_proxy_add_header_map_value
      (local.get $map) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)))

  (func $proxy_replace_header_map_value
    (param $map i32) (param $key i32) (param $key_size i32) (param $value i32) (param $size i32) (result i32)
    (local $record i32)
    (block $python
      (local.set $record
        (call $open_for_value
          (local.get $map) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python
        (i32.eqz
          (call $insert
            (local.get $record) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)
            (i32.const 1))))
      (return (i32.const %OK%)))
    (call $python_proxy_replace_header_map_value
      (local.get $map) (local.get $key) (local.get $key_size) (local.get $value) (local.get $size)))

  (func $proxy_remove_header_map_value (param $map i32) (param $key i32) (param $key_size i32) (result i32)
    (local $record i32)
    (block $python
      (br_if $python (i32.eqz (call $in_guest (local.get $key) (local.get $key_size))))
      (br_if $python (i32.eqz (call $is_plain_name (local.get $key) (local.get $key_size))))
      (local.set $record (call $open_map (local.get $map) (i32.const %WRITE%)))
      (br_if $python (i32.eqz (local.get $record)))
      (call $remove_all (local.get $record) (local.get $key) (local.get $key_size))
      (return (i32.const %OK%)))
    (call $python_proxy_remove_header_map_value (local.get $map) (local.get $key) (local.get $key_size)))

  ;; Whether the entries of $table are names and values that Python would keep as they are: plain, no name twice, the
  ;; pseudo-headers in front. The bytes are the plugin's, still at $guest_bytes, where those of $copy came from.
  (func $entries_are_plain (param $table i32) (param $count i32) (param $copy i32) (param $guest_bytes i32) (result i32)
    (local $end i32)
    (local $entry i32)
    (local $other i32)
    (local $key i32)
    (local $body i32)
    (local.set $end (i32.add (local.get $table) (i32.shl (local.get $count) (i32.const 4))))
    (local.set $entry (local.get $table))
    (block $done
      (loop $next
        (br_if $done (i32.eq (local.get $entry) (local.get $end)))
        (local.set $key
          (i32.add (local.get $guest_bytes) (i32.sub (i32.load $host (local.get $entry)) (local.get $copy))))
        (if (i32.eqz (call $is_plain_name (local.get $key) (i32.load $host offset=4 (local.get $entry))))
          (then (return (i32.const 0))))
        (if (i32.eq (i32.load8_u $guest (local.get $key)) (i32.const 0x3a))
          (then (if (local.get $body) (then (return (i32.const 0)))))
          (else (local.set $body (i32.const 1))))
        (local.set $other (local.get $table))
        (block $unique
          (loop $compare
            (br_if $unique (i32.eq (local.get $other) (local.get $entry)))
            (if (i32.eq (i32.load $host offset=4 (local.get $other)) (i32.load $host offset=4 (local.get $entry)))
              (then
                (if (call $same
                      (i32.load $host (local.get $other)) (local.get $key) (i32.load $host offset=4 (local.get $entry)))
                  (then (return (i32.const 0))))))
            (local.set $other (i32.add (local.get $other) (i32.const 16)))
            (br $compare)))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (br $next)))
    (i32.const 1))

  (func $proxy_set_header_map_pairs (param $map i32) (param $pairs i32) (param $size i32) (result i32)
    (local $record i32)
    (local $copy i32)
    (local $table i32)
    (local $count i32)
    (local $room i32)
    (block $python
      (br_if $python (i32.eqz (call $in_guest (local.get $pairs) (local.get $size))))
      (local.set $record (call $open_map (local.get $map) (i32.const %WRITE%)))
      (br_if $python (i32.eqz (local.get $record)))
      (local.set $copy (call $keep (local.get $pairs) (local.get $size)))
      (br_if $python (i32.eqz (local.get $copy)))
      (br_if $python (i32.eqz (call $pairs_are_sound (local.get $copy) (local.get $size))))
      (local.set $count (i32.load $host (local.get $copy)))
      (br_if $python (i32.gt_u (local.get $count) (i32.const 128)))
      (local.set $room (i32.add (local.get $count) (i32.const %MAP_SPARE%)))
      (local.set $table (call $reserve (i32.mul (local.get $room) (i32.const 16))))
      (br_if $python (i32.eqz (local.get $table)))
      (call $index_pairs (local.get $copy) (local.get $table))
      (br_if $python
        (i32.eqz
          (call $entries_are_plain (local.get $table) (local.get $count) (local.get $copy) (local.get $pairs))))
      (i32.store $host offset=%MAP_TABLE% (local.get $record) (local.get $table))
      (i32.store $host offset=%MAP_ENTRIES% (local.get $record) (local.get $count))
      (i32.store $host offset=%MAP_ROOM% (local.get $record) (local.get $room))
      (call $mark_changed (local.get $record))
      (return (i32.const %OK%)))
    (call $python_proxy_set_header_map_pairs (local.get $map) (local.get $pairs) (local.get $size)))
