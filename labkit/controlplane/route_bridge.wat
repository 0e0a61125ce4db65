;; The route bridge: makes rules by route and by service work on upstream Envoy.
;;
;; Plugins written for Higress ask for the properties "route_name" and "cluster_name" while request headers pass.
;; Higress' Envoy answers; upstream Envoy knows them only after the router has run, but does answer
;; "xds.route_name" and "xds.cluster_name". This filter, first in the chain, copies one pair to the other.
;;
;; Assembled when the controller starts (wat2wasm), so what runs is what is written here.
(module
  (import "env" "proxy_get_property"
    (func $get_property (param $path i32) (param $path_size i32) (param $value i32) (param $size i32) (result i32)))
  (import "env" "proxy_set_property"
    (func $set_property (param $path i32) (param $path_size i32) (param $value i32) (param $size i32) (result i32)))

  (memory (export "memory") 2)

  ;; 0..7: where the host writes the address and the size of a value it hands over.
  (data (i32.const 16) "xds\00route_name")
  (data (i32.const 32) "xds\00cluster_name")
  (data (i32.const 64) "route_name")
  (data (i32.const 80) "cluster_name")

  ;; The host allocates one value at a time and nothing outlives a call, so the allocator always hands out the
  ;; same place, and grows the memory when a value is larger than it.
  (func $allocate (export "proxy_on_memory_allocate") (param $size i32) (result i32)
    (local $missing i32)
    (local.set $missing
      (i32.sub (i32.add (i32.const 1024) (local.get $size)) (i32.mul (memory.size) (i32.const 65536))))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then
        (if (i32.eq
              (memory.grow (i32.div_u (i32.add (local.get $missing) (i32.const 65535)) (i32.const 65536)))
              (i32.const -1))
          (then (return (i32.const 0))))))
    (i32.const 1024))

  (func $copy (param $from i32) (param $from_size i32) (param $to i32) (param $to_size i32)
    (if (i32.eqz
          (call $get_property (local.get $from) (local.get $from_size) (i32.const 0) (i32.const 4)))
      (then
        (drop
          (call $set_property (local.get $to) (local.get $to_size) (i32.load (i32.const 0)) (i32.load (i32.const 4)))))))

  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (call $copy (i32.const 16) (i32.const 14) (i32.const 64) (i32.const 10))
    (call $copy (i32.const 32) (i32.const 16) (i32.const 80) (i32.const 12))
    (i32.const 0)) ;; continue
  (func (export "proxy_on_done") (param i32) (result i32) (i32.const 1))
  (func (export "proxy_on_delete") (param i32)))
