  ;; Everything but header maps: buffers, properties, the local reply, logging, time and the foreign function that
  ;; SDKs ask for their log level.

  ;; The record of a buffer that may be used so; 0 otherwise. Which buffer was looked at last is remembered, since
  ;; plugins may ask for that one by the name of "call data".
  (func $open_buffer (param $buffer i32) (param $access i32) (result i32)
    (local $record i32)
    (if (i32.load $host (i32.const %BUSY%)) (then (return (i32.const 0))))
    (if (i32.ge_u (local.get $buffer) (i32.const %BUFFER_COUNT%)) (then (return (i32.const 0))))
    (local.set $record (i32.add (i32.const %BUFFERS%) (i32.mul (local.get $buffer) (i32.const %BUFFER_SIZE%))))
    (if (i32.eqz (i32.and (i32.load $host offset=%BUFFER_ACCESS% (local.get $record)) (local.get $access)))
      (then (return (i32.const 0))))
    (if (i32.eqz (i32.load $host offset=%BUFFER_DATA% (local.get $record))) (then (return (i32.const 0))))
    (i32.store $host (i32.const %LAST_BUFFER%) (i32.add (local.get $buffer) (i32.const 1)))
    (i32.store $host (i32.const %CHANGED%) (i32.const 1))
    (local.get $record))

  (func $proxy_get_buffer_bytes
    (param $buffer i32) (param $start i32) (param $length i32) (param $data_at i32) (param $size_at i32) (result i32)
    (local $record i32)
    (local $left i32)
    (block $python
      (br_if $python (i32.eqz (call $out_in_guest (local.get $data_at) (local.get $size_at))))
      (local.set $record (call $open_buffer (local.get $buffer) (i32.const %READ%)))
      (br_if $python (i32.eqz (local.get $record)))
      (br_if $python (i32.eqz (local.get $length)))
      (br_if $python (i32.ge_u (local.get $start) (i32.load $host offset=%BUFFER_BYTES% (local.get $record))))
      (br_if $python (i32.lt_u (i32.add (local.get $start) (local.get $length)) (local.get $start)))
      (local.set $left (i32.sub (i32.load $host offset=%BUFFER_BYTES% (local.get $record)) (local.get $start)))
      (if (i32.lt_u (local.get $left) (local.get $length)) (then (local.set $length (local.get $left))))
      (br_if $python
        (i32.eqz
          (call $answer
            (i32.add (i32.load $host offset=%BUFFER_DATA% (local.get $record)) (local.get $start))
            (local.get $length)
            (local.get $data_at)
            (local.get $size_at))))
      (return (i32.const %OK%)))
    (call $python_proxy_get_buffer_bytes
      (local.get $buffer) (local.get $start) (local.get $length) (local.get $data_at) (local.get $size_at)))

  (func $proxy_get_buffer_status (param $buffer i32) (param $length_at i32) (param $flags_at i32) (result i32)
    (local $record i32)
    (block $python
      (br_if $python (i32.eqz (call $out_in_guest (local.get $length_at) (local.get $flags_at))))
      (local.set $record (call $open_buffer (local.get $buffer) (i32.const %READ%)))
      (br_if $python (i32.eqz (local.get $record)))
      (i32.store $guest (local.get $length_at) (i32.load $host offset=%BUFFER_BYTES% (local.get $record)))
      (i32.store $guest (local.get $flags_at) (i32.const 0))
      (return (i32.const %OK%)))
    (call $python_proxy_get_buffer_status (local.get $buffer) (local.get $length_at) (local.get $flags_at)))

  ;; The body anew in the arena: $head bytes that stay in front, the plugin's, $tail bytes of the old end. 0 when full.
  (func $splice
    (param $record i32) (param $head i32) (param $data i32) (param $size i32) (param $tail i32) (result i32)
    (local $old i32)
    (local $copy i32)
    (local $bytes i64)
    (local.set $old (i32.load $host offset=%BUFFER_DATA% (local.get $record)))
    (local.set $bytes
      (i64.add
        (i64.add (i64.extend_i32_u (local.get $head)) (i64.extend_i32_u (local.get $size)))
        (i64.extend_i32_u (local.get $tail))))
    (if (i64.gt_u (local.get $bytes) (i64.const %LOG_END%)) (then (return (i32.const 0))))
    (local.set $copy (call $reserve (i32.wrap_i64 (local.get $bytes))))
    (if (i32.eqz (local.get $copy)) (then (return (i32.const 0))))
    (memory.copy $host $host (local.get $copy) (local.get $old) (local.get $head))
    (memory.copy $host $guest (i32.add (local.get $copy) (local.get $head)) (local.get $data) (local.get $size))
    (memory.copy $host $host
      (i32.add (i32.add (local.get $copy) (local.get $head)) (local.get $size))
      (i32.sub
        (i32.add (local.get $old) (i32.load $host offset=%BUFFER_BYTES% (local.get $record)))
        (local.get $tail))
      (local.get $tail))
    (i32.store $host offset=%BUFFER_DATA% (local.get $record) (local.get $copy))
    (i32.store $host offset=%BUFFER_BYTES% (local.get $record) (i32.wrap_i64 (local.get $bytes)))
    (i32.store $host offset=%BUFFER_CHANGED% (local.get $record) (i32.const 1))
    (i32.const 1))

  ;; At 0 the first $length bytes are replaced (none: the data goes in front); at or behind the end it is appended.
  (func $proxy_set_buffer_bytes
    (param $buffer i32) (param $start i32) (param $length i32) (param $data i32) (param $size i32) (result i32)
    (local $record i32)
    (local $bytes i32)
    (block $python
      (br_if $python (i32.eqz (call $in_guest (local.get $data) (local.get $size))))
      (local.set $record (call $open_buffer (local.get $buffer) (i32.const %WRITE%)))
      (br_if $python (i32.eqz (local.get $record)))
      (local.set $bytes (i32.load $host offset=%BUFFER_BYTES% (local.get $record)))
      (if (local.get $start)
        (then
          (br_if $python (i32.lt_u (local.get $start) (local.get $bytes)))
          (br_if $python
            (i32.eqz
              (call $splice
                (local.get $record) (local.get $bytes) (local.get $data) (local.get $size) (i32.const 0)))))
        (else
          (if (i32.gt_u (local.get $length) (local.get $bytes)) (then (local.set $length (local.get $bytes))))
          (br_if $python
            (i32.eqz
              (call $splice
                (local.get $record) (i32.const 0) (local.get $data) (local.get $size)
                (i32.sub (local.get $bytes) (local.get $length)))))))
      (return (i32.const %OK%)))
    (call $python_proxy_set_buffer_bytes
      (local.get $buffer) (local.get $start) (local.get $length) (local.get $data) (local.get $size)))

  ;; Properties are pairs of a path and a value whose first byte says what is known of it: %PROPERTY_PRESENT%
  ;; for a value that follows, %PROPERTY_SETTABLE% for a path that plugins may set. A path that is not in the table
  ;; is Python's.
  (func $find_property (param $path i32) (param $path_size i32) (result i32)
    (local $entry i32)
    (local $left i32)
    (local $pairs i32)
    (if (i32.load $host (i32.const %BUSY%)) (then (return (i32.const 0))))
    (if (i32.eqz (i32.load $host (i32.const %PROPERTY_ACCESS%))) (then (return (i32.const 0))))
    (if (i32.eqz (i32.load $host (i32.const %PROPERTY_TABLE%)))
      (then
        (local.set $pairs (i32.load $host (i32.const %PROPERTY_PAIRS%)))
        (if (i32.eqz (local.get $pairs)) (then (return (i32.const 0))))
        (local.set $left (i32.load $host (local.get $pairs)))
        (local.set $entry (call $reserve (i32.shl (local.get $left) (i32.const 4))))
        (if (i32.eqz (local.get $entry)) (then (return (i32.const 0))))
        (call $index_pairs (local.get $pairs) (local.get $entry))
        (i32.store $host (i32.const %PROPERTY_TABLE%) (local.get $entry))
        (i32.store $host (i32.const %PROPERTY_ENTRIES%) (local.get $left))))
    (local.set $entry (i32.load $host (i32.const %PROPERTY_TABLE%)))
    (local.set $left (i32.load $host (i32.const %PROPERTY_ENTRIES%)))
    (block $none
      (loop $next
        (br_if $none (i32.eqz (local.get $left)))
        (if (i32.eq (i32.load $host offset=4 (local.get $entry)) (local.get $path_size))
          (then
            (if (call $same (i32.load $host (local.get $entry)) (local.get $path) (local.get $path_size))
              (then (return (local.get $entry))))))
        (local.set $entry (i32.add (local.get $entry) (i32.const 16)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    (i32.const 0))

  (func $proxy_get_property
    (param $path i32) (param $path_size i32) (param $value_at i32) (param $size_at i32) (result i32)
    (local $entry i32)
    (local $value i32)
    (local $size i32)
    (block $python
      (br_if $python (i32.eqz (call $in_guest (local.get $path) (local.get $path_size))))
      (br_if $python (i32.eqz (call $out_in_guest (local.get $value_at) (local.get $size_at))))
      (local.set $entry (call $find_property (local.get $path) (local.get $path_size)))
      (br_if $python (i32.eqz (local.get $entry)))
      (local.set $value (i32.load $host offset=8 (local.get $entry)))
      (if (i32.eqz (i32.and (i32.load8_u $host (local.get $value)) (i32.const %PROPERTY_PRESENT%)))
        (then (return (i32.const %NOT_FOUND%))))
      (local.set $size (i32.sub (i32.load $host offset=12 (local.get $entry)) (i32.const 1)))
      (br_if $python (i32.eqz (local.get $size)))
      (br_if $python
        (i32.eqz
          (call $answer
            (i32.add (local.get $value) (i32.const 1))
            (local.get $size)
            (local.get $value_at)
            (local.get $size_at))))
      (return (i32.const %OK%)))
    (call $python_proxy_get_property
      (local.get $path) (local.get $path_size) (local.get $value_at) (local.get $size_at)))

  (func $proxy_set_property (param $path i32) (param $path_size i32) (param $value i32) (param $size i32) (result i32)
    (local $entry i32)
    (local $copy i32)
    (block $python
      (br_if $python (i32.eqz (call $in_guest (local.get $path) (local.get $path_size))))
      (br_if $python (i32.eqz (call $in_guest (local.get $value) (local.get $size))))
      (br_if $python (i32.eqz (local.get $size)))
      (br_if $python (i32.gt_u (local.get $size) (i32.const 0x10000)))
      (local.set $entry (call $find_property (local.get $path) (local.get $path_size)))
      (br_if $python (i32.eqz (local.get $entry)))
      (br_if $python
        (i32.eqz
          (i32.and (i32.load8_u $host (i32.load $host offset=8 (local.get $entry))) (i32.const %PROPERTY_SETTABLE%))))
      (local.set $copy (call $reserve (i32.add (local.get $size) (i32.const 1))))
      (br_if $python (i32.eqz (local.get $copy)))
      (i32.store8 $host (local.get $copy) (i32.const %PROPERTY_SET%))
      (memory.copy $host $guest (i32.add (local.get $copy) (i32.const 1)) (local.get $value) (local.get $size))
      (i32.store $host offset=8 (local.get $entry) (local.get $copy))
      (i32.store $host offset=12 (local.get $entry) (i32.add (local.get $size) (i32.const 1)))
      (i32.store $host (i32.const %PROPERTY_CHANGED%) (i32.const 1))
      (i32.store $host (i32.const %CHANGED%) (i32.const 1))
      (return (i32.const %OK%)))
    (call $python_proxy_set_property
      (local.get $path) (local.get $path_size) (local.get $value) (local.get $size)))

  ;; The first local reply of a stream is kept here; what else is sent goes to Python.
  (func $proxy_send_local_response
    (param $status i32) (param $details i32) (param $details_size i32) (param $body i32) (param $body_size i32)
    (param $headers i32) (param $headers_size i32) (param $grpc_status i32) (result i32)
    (local $text i32)
    (local $data i32)
    (local $pairs i32)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %REPLY_ACCESS%))))
      (br_if $python (i32.load $host (i32.const %REPLIED%)))
      (br_if $python (i32.eqz (call $in_guest (local.get $details) (local.get $details_size))))
      (br_if $python (i32.eqz (call $in_guest (local.get $body) (local.get $body_size))))
      (br_if $python (i32.eqz (call $in_guest (local.get $headers) (local.get $headers_size))))
      (local.set $text (call $keep (local.get $details) (local.get $details_size)))
      (br_if $python (i32.eqz (local.get $text)))
      (local.set $data (call $keep (local.get $body) (local.get $body_size)))
      (br_if $python (i32.eqz (local.get $data)))
      (local.set $pairs (call $keep (local.get $headers) (local.get $headers_size)))
      (br_if $python (i32.eqz (local.get $pairs)))
      (if (local.get $headers_size)
        (then (br_if $python (i32.eqz (call $pairs_are_sound (local.get $pairs) (local.get $headers_size))))))
      (i32.store $host (i32.const %REPLIED%) (i32.const 1))
      (i32.store $host (i32.const %CHANGED%) (i32.const 1))
      (i32.store $host (i32.const %REPLY_STATUS%) (local.get $status))
      (i32.store $host (i32.const %REPLY_GRPC%) (local.get $grpc_status))
      (i32.store $host (i32.const %REPLY_DETAILS%) (local.get $text))
      (i32.store $host (i32.const %REPLY_DETAILS_BYTES%) (local.get $details_size))
      (i32.store $host (i32.const %REPLY_BODY%) (local.get $data))
      (i32.store $host (i32.const %REPLY_BODY_BYTES%) (local.get $body_size))
      (i32.store $host (i32.const %REPLY_HEADERS%) (local.get $pairs))
      (i32.store $host (i32.const %REPLY_HEADERS_BYTES%) (local.get $headers_size))
      (return (i32.const %OK%)))
    (call $python_proxy_send_local_response
      (local.get $status) (local.get $details) (local.get $details_size) (local.get $body) (local.get $body_size)
      (local.get $headers) (local.get $headers_size) (local.get $grpc_status)))

  ;; Lines below the level end here; the others are kept in order, each as (level, size, bytes), 8-aligned.
  (func $proxy_log (param $level i32) (param $message i32) (param $size i32) (result i32)
    (local $at i32)
    (local $next i64)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %LOG_ACCESS%))))
      (br_if $python (i32.gt_u (local.get $level) (i32.const 5)))
      (br_if $python (i32.gt_u (local.get $size) (i32.load $host (i32.const %LOG_LINE_BYTES%))))
      (br_if $python (i32.eqz (call $in_guest (local.get $message) (local.get $size))))
      (if (i32.lt_u (local.get $level) (i32.load $host (i32.const %LOG_LEVEL%))) (then (return (i32.const %OK%))))
      (local.set $at (i32.load $host (i32.const %LOG_NEXT%)))
      (local.set $next
        (i64.and
          (i64.add (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $size))) (i64.const 15))
          (i64.const -8)))
      (br_if $python (i64.gt_u (local.get $next) (i64.const %LOG_END%)))
      (i32.store $host (local.get $at) (local.get $level))
      (i32.store $host offset=4 (local.get $at) (local.get $size))
      (memory.copy $host $guest (i32.add (local.get $at) (i32.const 8)) (local.get $message) (local.get $size))
      (i32.store $host (i32.const %LOG_NEXT%) (i32.wrap_i64 (local.get $next)))
      (i32.store $host (i32.const %CHANGED%) (i32.const 1))
      (return (i32.const %OK%)))
    (call $python_proxy_log (local.get $level) (local.get $message) (local.get $size)))

  (func $proxy_get_log_level (param $level_at i32) (result i32)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %LOG_ACCESS%))))
      (br_if $python (i32.eqz (call $in_guest (local.get $level_at) (i32.const 4))))
      (i32.store $guest (local.get $level_at) (i32.load $host (i32.const %LOG_LEVEL%)))
      (return (i32.const %OK%)))
    (call $python_proxy_get_log_level (local.get $level_at)))

  ;; A clock that stands still between Python's turns is read here; a running one is Python's.
  (func $proxy_get_current_time_nanoseconds (param $time_at i32) (result i32)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %CLOCK_ACCESS%))))
      (br_if $python (i32.eqz (call $in_guest (local.get $time_at) (i32.const 8))))
      (i64.store $guest (local.get $time_at) (i64.load $host (i32.const %CLOCK_REALTIME%)))
      (return (i32.const %OK%)))
    (call $python_proxy_get_current_time_nanoseconds (local.get $time_at)))

  ;; Clock 0 is the time of day, clock 1 the monotonic one; they lie side by side.
  (func $clock_time_get (param $clock i32) (param $precision i64) (param $time_at i32) (result i32)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %CLOCK_ACCESS%))))
      (br_if $python (i32.gt_u (local.get $clock) (i32.const 1)))
      (br_if $python (i32.eqz (call $in_guest (local.get $time_at) (i32.const 8))))
      (i64.store $guest (local.get $time_at)
        (i64.load $host offset=%CLOCK_REALTIME% (i32.shl (local.get $clock) (i32.const 3))))
      (return (i32.const 0)))
    (call $python_clock_time_get (local.get $clock) (local.get $precision) (local.get $time_at)))

  ;; A stream that makes itself effective again changes nothing.
  (func $proxy_set_effective_context (param $context i32) (result i32)
    (block $python
      (br_if $python (i32.load $host (i32.const %BUSY%)))
      (br_if $python (i32.eqz (i32.load $host (i32.const %RESIDENT%))))
      (br_if $python (i32.ne (local.get $context) (i32.load $host (i32.const %RESIDENT%))))
      (return (i32.const %OK%)))
    (call $python_proxy_set_effective_context (local.get $context)))
