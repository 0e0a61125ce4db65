"""The fast path: hot host calls answered inside Wasm, so that Python is entered once a phase or once a request.

Three small modules stand beside the plugin in its store. `trampolines` is what the plugin is linked against: one
function a hot host call, each a jump through a table that first leads to Python. `responder` imports the plugin's
memory and allocator, has a memory of its own (the *resident state*: header maps, buffers, properties of the stream
that is running), and puts its own functions into that table. What it does not know, it hands to the Python host
function of the same name before it changed anything; Python takes over what changed meanwhile, answers, and makes
the state resident again. Python's host functions thus remain the only place where rules are decided.

`layout` says where things lie, `assemble` writes the modules, `helpers` links them, `path` carries state in and out of
the responder, `wanted` remembers what a plugin asks for, `walk` takes a stream through several callbacks in one turn,
and `prepared` makes the convenient call of it.
"""
