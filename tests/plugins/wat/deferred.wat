;; Holds every request and every response with a header `x-hold` back until the timer fires, by the bare ABI 0.2.1.
(module
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective_context (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (import "env" "proxy_get_header_map_value"
    (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value"
    (func $add (param i32 i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 16) "x-hold")
  (data (i32.const 32) "x-held")
  (data (i32.const 48) "until the tick")

  (global $next (mut i32) (i32.const 1024))      ;; the allocator starts over with each request
  (global $held (mut i32) (i32.const 0))         ;; the context that waits
  (global $direction (mut i32) (i32.const 0))    ;; 0: its request, 1: its response

  (func (export "proxy_abi_version_0_2_1"))

  (func (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "proxy_on_context_create") (param i32 i32))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $tick_period (i32.const 10)))
    (i32.const 1))

  ;; 1 when the map has `x-hold`; then the map gets `x-held` and the context is remembered.
  (func $hold (param $context i32) (param $map i32) (param $direction i32) (result i32)
    (global.set $next (i32.const 1024))
    (if (call $get (local.get $map) (i32.const 16) (i32.const 6) (i32.const 0) (i32.const 4))
      (then (return (i32.const 0))))
    (drop (call $add (local.get $map) (i32.const 32) (i32.const 6) (i32.const 48) (i32.const 14)))
    (global.set $held (local.get $context))
    (global.set $direction (local.get $direction))
    (i32.const 1))

  (func (export "proxy_on_request_headers") (param $context i32) (param i32 i32) (result i32)
    (call $hold (local.get $context) (i32.const 0) (i32.const 0)))

  (func (export "proxy_on_response_headers") (param $context i32) (param i32 i32) (result i32)
    (call $hold (local.get $context) (i32.const 2) (i32.const 1)))

  (func (export "proxy_on_tick") (param $root i32)
    (if (i32.eqz (global.get $held)) (then (return)))
    (drop (call $effective_context (global.get $held)))
    (global.set $held (i32.const 0))
    (drop (call $continue (global.get $direction))))

  (func (export "proxy_on_done") (param i32) (result i32)
    (i32.const 1)))
