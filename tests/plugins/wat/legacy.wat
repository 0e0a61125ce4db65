;; The old ABI 0.1.0: callbacks without end_of_stream, the configuration by a call of its own, `malloc`.
;; Adds its configuration as `x-legacy` to requests and responses; `x-hold` makes a request wait for the timer.
(module
  (import "env" "proxy_get_configuration" (func $configuration (param i32 i32) (result i32)))
  (import "env" "proxy_set_tick_period_milliseconds" (func $tick_period (param i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $effective_context (param i32) (result i32)))
  (import "env" "proxy_continue_request" (func $continue_request (result i32)))
  (import "env" "proxy_clear_route_cache" (func $clear_route_cache (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))

  (memory (export "memory") 2)
  (data (i32.const 16) "x-hold")
  (data (i32.const 32) "x-legacy")

  (global $next (mut i32) (i32.const 1024))
  (global $kept (mut i32) (i32.const 1024))      ;; what was allocated for the configuration stays
  (global $held (mut i32) (i32.const 0))

  (func (export "proxy_abi_version_0_1_0"))

  (func (export "malloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))

  (func (export "proxy_on_configure") (param i32 i32) (result i32)
    (drop (call $configuration (i32.const 0) (i32.const 4)))
    (global.set $kept (global.get $next))
    (drop (call $tick_period (i32.const 10)))
    (i32.const 1))

  (func $sign (param $map i32)
    (global.set $next (global.get $kept))
    (drop (call $add (local.get $map) (i32.const 32) (i32.const 8) (i32.load (i32.const 0)) (i32.load (i32.const 4)))))

  (func (export "proxy_on_request_headers") (param $context i32) (param i32) (result i32)
    (call $sign (i32.const 0))
    (if (call $get (i32.const 0) (i32.const 16) (i32.const 6) (i32.const 8) (i32.const 12))
      (then (return (i32.const 0))))
    (global.set $held (local.get $context))
    (i32.const 1))

  (func (export "proxy_on_response_headers") (param i32 i32) (result i32)
    (call $sign (i32.const 2))
    (i32.const 0))

  (func (export "proxy_on_tick") (param i32)
    (if (i32.eqz (global.get $held)) (then (return)))
    (drop (call $effective_context (global.get $held)))
    (drop (call $clear_route_cache))
    (drop (call $continue_request))
    (global.set $held (i32.const 0)))

  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_log") (param i32))
  (func (export "proxy_on_delete") (param i32)))
