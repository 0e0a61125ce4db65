  ;; Two memories: $guest is the plugin's and never trusted, $host is the module's own and out of the plugin's reach.
  ;; An address in $guest is only used after $in_guest said yes; sizes are added up in 64 bits, so nothing wraps.

  (func $in_guest (param $address i32) (param $size i32) (result i32)
    (i64.le_u
      (i64.add (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size)))
      (i64.shl (i64.extend_i32_u (memory.size $guest)) (i64.const 16))))

  ;; Reserves $size bytes of the arena, 8-aligned; 0 when it is full, and the caller then leaves the call to Python.
  (func $reserve (param $size i32) (result i32)
    (local $address i32)
    (local $end i64)
    (local.set $address (i32.load $host (i32.const %ARENA_NEXT%)))
    (local.set $end
      (i64.and
        (i64.add (i64.add (i64.extend_i32_u (local.get $address)) (i64.extend_i32_u (local.get $size))) (i64.const 7))
        (i64.const -8)))
    (if (i64.gt_u (local.get $end) (i64.extend_i32_u (i32.load $host (i32.const %ARENA_END%))))
      (then (return (i32.const 0))))
    (i32.store $host (i32.const %ARENA_NEXT%) (i32.wrap_i64 (local.get $end)))
    (local.get $address))

  ;; Copies bytes of the plugin, already checked, into the arena; 0 when it is full.
  (func $keep (param $address i32) (param $size i32) (result i32)
    (local $copy i32)
    (local.set $copy (call $reserve (local.get $size)))
    (if (local.get $copy)
      (then (memory.copy $host $guest (local.get $copy) (local.get $address) (local.get $size))))
    (local.get $copy))

  ;; Whether $size bytes at $ours in $host equal those at $theirs in $guest.
  (func $same (param $ours i32) (param $theirs i32) (param $size i32) (result i32)
    (block $tail
      (loop $words
        (br_if $tail (i32.lt_u (local.get $size) (i32.const 8)))
        (if (i64.ne (i64.load $host (local.get $ours)) (i64.load $guest (local.get $theirs)))
          (then (return (i32.const 0))))
        (local.set $ours (i32.add (local.get $ours) (i32.const 8)))
        (local.set $theirs (i32.add (local.get $theirs) (i32.const 8)))
        (local.set $size (i32.sub (local.get $size) (i32.const 8)))
        (br $words)))
    (loop $bytes
      (if (i32.eqz (local.get $size)) (then (return (i32.const 1))))
      (if (i32.ne (i32.load8_u $host (local.get $ours)) (i32.load8_u $guest (local.get $theirs)))
        (then (return (i32.const 0))))
      (local.set $ours (i32.add (local.get $ours) (i32.const 1)))
      (local.set $theirs (i32.add (local.get $theirs) (i32.const 1)))
      (local.set $size (i32.sub (local.get $size) (i32.const 1)))
      (br $bytes))
    (unreachable))

  ;; Both places a host function answers through: data pointer and size.
  (func $out_in_guest (param $pointer i32) (param $size i32) (result i32)
    (i32.and (call $in_guest (local.get $pointer) (i32.const 4)) (call $in_guest (local.get $size) (i32.const 4))))

  ;; Memory for an answer from the plugin's own allocator; 0 when it has none or lies about it: then Python takes the
  ;; call over, and what the allocator answered. Should the allocator call the host, it does not do so on behalf of the
  ;; stream: busy.
  (func $allocate_answer (param $size i32) (result i32)
    (local $address i32)
    (i32.store $host (i32.const %BUSY%) (i32.const 1))
    (local.set $address (call $allocate (local.get $size)))
    (i32.store $host (i32.const %BUSY%) (i32.const 0))
    (if (i32.and
          (i32.ne (local.get $address) (i32.const 0))
          (call $in_guest (local.get $address) (local.get $size)))
      (then (return (local.get $address))))
    (i32.store $host (i32.const %REFUSED%) (i32.const 1))
    (i32.store $host (i32.const %REFUSED_ADDRESS%) (local.get $address))
    (i32.const 0))

  ;; Hands $size bytes of $host to the plugin and says where; 0 when that failed. The places were checked.
  (func $answer (param $ours i32) (param $size i32) (param $pointer_at i32) (param $size_at i32) (result i32)
    (local $address i32)
    (local.set $address (call $allocate_answer (local.get $size)))
    (if (i32.eqz (local.get $address)) (then (return (i32.const 0))))
    (memory.copy $guest $host (local.get $address) (local.get $ours) (local.get $size))
    (i32.store $guest (local.get $pointer_at) (local.get $address))
    (i32.store $guest (local.get $size_at) (local.get $size))
    (i32.const 1))
