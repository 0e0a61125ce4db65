  ;; Walks the plugin through callbacks that Python planned, so that Wasm is entered once for several of them. The plan
  ;; is a list of steps: callback, two arguments beside the context, the answer that lets the walk go on, and what the
  ;; callback may touch. It ends early, after a step, when the answer is another one, when Python said so meanwhile, or
  ;; when a local reply was sent that the step watches for.

  ;; Opens and closes the stream's maps, bodies, properties and local reply as a step's access word says.
  (func $set_access (param $access i32)
    (local $index i32)
    (loop $next_map
      (i32.store $host offset=%MAPS_ACCESS%
        (i32.mul (local.get $index) (i32.const %MAP_SIZE%))
        (i32.and (i32.shr_u (local.get $access) (i32.shl (local.get $index) (i32.const 1))) (i32.const 3)))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br_if $next_map (i32.lt_u (local.get $index) (i32.const %STREAM_MAPS%))))
    (i32.store $host (i32.const %BUFFERS%)
      (i32.and (i32.shr_u (local.get $access) (i32.const %ACCESS_BUFFERS%)) (i32.const 3)))
    (i32.store $host offset=%BUFFER_SIZE% (i32.const %BUFFERS%)
      (i32.and (i32.shr_u (local.get $access) (i32.const 10)) (i32.const 3)))
    (i32.store $host (i32.const %PROPERTY_ACCESS%) (i32.and (local.get $access) (i32.const %ACCESS_PROPERTIES%)))
    (i32.store $host (i32.const %REPLY_ACCESS%) (i32.and (local.get $access) (i32.const %ACCESS_REPLY%))))

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
      (call $set_access (i32.load $host offset=%STEP_ACCESS% (local.get $step)))
      (local.set $result
        (call $call_back
          (i32.load $host offset=%STEP_CALLBACK% (local.get $step))
          (i32.load $host offset=%STEP_SECOND% (local.get $step))
          (i32.load $host offset=%STEP_THIRD% (local.get $step))))
      (i32.store $host offset=%STEP_RESULT% (local.get $step) (local.get $result))
      (i32.store $host (i32.const %STEPS_DONE%)
        (i32.add (i32.load $host (i32.const %STEPS_DONE%)) (i32.const 1)))
      (if (i32.and
            (i32.ne (i32.load $host offset=%STEP_EXPECTED% (local.get $step)) (i32.const %ANY%))
            (i32.ne (i32.load $host offset=%STEP_EXPECTED% (local.get $step)) (local.get $result)))
        (then
          (i32.store $host (i32.const %STRAYED%) (i32.const 1))
          (return)))
      (if (i32.load $host (i32.const %STOP%)) (then (return)))
      (if (i32.and
            (i32.load $host offset=%STEP_WATCHES% (local.get $step))
            (i32.or
              (i32.mul (i32.load $host (i32.const %REPLIED%)) (i32.const %WATCH_REPLY%))
              (i32.mul (i32.load $host (i32.const %MAPS_CHANGED%)) (i32.const %WATCH_CHANGES%))))
        (then (return)))
      (br_if $next
        (i32.lt_u (i32.load $host (i32.const %STEPS_DONE%)) (i32.load $host (i32.const %STEPS_PLANNED%))))))
