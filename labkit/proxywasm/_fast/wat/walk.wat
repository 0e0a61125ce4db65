  ;; Walks the plugin through callbacks that Python planned, so that Wasm is entered once for several of them. The plan
  ;; is a list of steps: callback, two arguments beside the context, the answer that lets the walk go on, and what to seal first.
  ;; It ends early, after a step, when the answer is another one or a local reply was sent that the step watches for.

  ;; Leaves maps, buffers, properties and the local reply to Python from here on, as the mask says.
  (func $seal (param $mask i32)
    (local $bit i32)
    (if (i32.eqz (local.get $mask)) (then (return)))
    (loop $next_map
      (if (i32.and (local.get $mask) (i32.shl (i32.const 1) (local.get $bit)))
        (then
          (i32.store $host offset=%MAPS_ACCESS% (i32.mul (local.get $bit) (i32.const %MAP_SIZE%)) (i32.const 0))))
      (local.set $bit (i32.add (local.get $bit) (i32.const 1)))
      (br_if $next_map (i32.lt_u (local.get $bit) (i32.const %MAP_COUNT%))))
    (if (i32.and (local.get $mask) (i32.const %SEAL_BUFFERS%))
      (then
        (local.set $bit (i32.const 0))
        (loop $next_buffer
          (i32.store $host offset=%BUFFERS_ACCESS%
            (i32.mul (local.get $bit) (i32.const %BUFFER_SIZE%)) (i32.const 0))
          (local.set $bit (i32.add (local.get $bit) (i32.const 1)))
          (br_if $next_buffer (i32.lt_u (local.get $bit) (i32.const %BUFFER_COUNT%))))))
    (if (i32.and (local.get $mask) (i32.const %SEAL_PROPERTIES%))
      (then (i32.store $host (i32.const %PROPERTY_ACCESS%) (i32.const 0))))
    (if (i32.and (local.get $mask) (i32.const %SEAL_REPLY%))
      (then (i32.store $host (i32.const %REPLY_ACCESS%) (i32.const 0)))))

  (func $call_back (param $callback i32) (param $second i32) (param $third i32) (result i32)
    (local $context i32)
    (local.set $context (i32.load $host (i32.const %RESIDENT%)))
    (block $on_delete
    (block $on_done
    (block $on_log
    (block $on_response_trailers
    (block $on_response_body
    (block $on_response_headers
    (block $on_request_trailers
    (block $on_request_body
    (block $on_request_headers
    (block $on_context_create
      (br_table
        $on_context_create $on_request_headers $on_request_body $on_request_trailers $on_response_headers
        $on_response_body $on_response_trailers $on_log $on_done $on_delete
        (local.get $callback)))
      (call $plugin_on_context_create (local.get $context) (local.get $second))
      (return (i32.const 0)))
      (return (call $plugin_on_request_headers (local.get $context) (local.get $second) %HEADERS_THIRD%)))
      (return (call $plugin_on_request_body (local.get $context) (local.get $second) (local.get $third))))
      (return (call $plugin_on_request_trailers (local.get $context) (local.get $second))))
      (return (call $plugin_on_response_headers (local.get $context) (local.get $second) %HEADERS_THIRD%)))
      (return (call $plugin_on_response_body (local.get $context) (local.get $second) (local.get $third))))
      (return (call $plugin_on_response_trailers (local.get $context) (local.get $second))))
      (call $plugin_on_log (local.get $context))
      (return (i32.const 0)))
      (return (call $plugin_on_done (local.get $context))))
    (call $plugin_on_delete (local.get $context))
    (i32.const 0))

  (func (export "walk")
    (local $step i32)
    (local $result i32)
    (loop $next
      (local.set $step
        (i32.add
          (i32.const %STEPS%)
          (i32.mul (i32.load $host (i32.const %STEPS_DONE%)) (i32.const %STEP_SIZE%))))
      (call $seal (i32.load $host offset=%STEP_SEAL% (local.get $step)))
      (local.set $result
        (call $call_back
          (i32.load $host offset=%STEP_CALLBACK% (local.get $step))
          (i32.load $host offset=%STEP_SECOND% (local.get $step))
          (i32.load $host offset=%STEP_THIRD% (local.get $step))))
      (i32.store $host offset=%STEP_RESULT% (local.get $step) (local.get $result))
      (i32.store $host (i32.const %STEPS_DONE%)
        (i32.add (i32.load $host (i32.const %STEPS_DONE%)) (i32.const 1)))
      (if (i32.ne (local.get $result) (i32.load $host offset=%STEP_EXPECTED% (local.get $step))) (then (return)))
      (if (i32.and
            (i32.load $host offset=%STEP_WATCHES_REPLY% (local.get $step))
            (i32.load $host (i32.const %REPLIED%)))
        (then (return)))
      (br_if $next
        (i32.lt_u (i32.load $host (i32.const %STEPS_DONE%)) (i32.load $host (i32.const %STEPS_PLANNED%))))))
