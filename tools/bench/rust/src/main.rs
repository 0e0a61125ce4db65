//! A native proxy-wasm host on the wasmtime crate, as one would write it in Rust: a comparator of `labkit bench host`.
//!
//! `bench-host PLUGIN.wasm < orders`: the first line is JSON `{"config", "properties", "headers", "body"}`, answered
//! by the local reply of one request; every further line is a number of requests, answered by the nanoseconds that
//! they took.

use std::io::{self, BufRead, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmtime::error::Context as _;
use serde::{Deserialize, Serialize};
use wasmtime::{bail, Caller, Config, Engine, Instance, Linker, Memory, Module, Result, Store, TypedFunc};

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const BAD_ARGUMENT: i32 = 2;
const INVALID_MEMORY_ACCESS: i32 = 6;
const INTERNAL_FAILURE: i32 = 10;
const WASI_BADF: i32 = 8;
const ROOT_CONTEXT: i32 = 1;
const REQUEST_BODY: i32 = 0;
const PLUGIN_CONFIGURATION: i32 = 7;

#[derive(Deserialize)]
struct Order {
    config: String,
    properties: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Serialize)]
struct Reply {
    status: i32,
    body: String,
}

#[derive(Default)]
struct Host {
    memory: Option<Memory>,
    allocate: Option<TypedFunc<i32, i32>>,
    config: Vec<u8>,
    properties: Vec<(Vec<u8>, Vec<u8>)>,
    set_properties: Vec<(Vec<u8>, Vec<u8>)>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    reply: Option<(i32, Vec<u8>)>,
}

type Call<'a> = Caller<'a, Host>;

fn read(caller: &Call, address: i32, size: i32) -> Option<Vec<u8>> {
    let start = address as u32 as usize;
    let data = caller.data().memory?.data(caller);
    Some(data.get(start..start.checked_add(size as u32 as usize)?)?.to_vec())
}

fn write(caller: &mut Call, address: i32, bytes: &[u8]) -> Option<()> {
    let memory = caller.data().memory?;
    memory.write(caller, address as u32 as usize, bytes).ok()
}

fn give(caller: &mut Call, bytes: &[u8], address_at: i32, size_at: i32) -> i32 {
    let Some(allocate) = caller.data().allocate.clone() else { return INTERNAL_FAILURE };
    let Ok(address) = allocate.call(&mut *caller, bytes.len() as i32) else { return INTERNAL_FAILURE };
    let written = write(caller, address, bytes)
        .and_then(|()| write(caller, address_at, &address.to_le_bytes()))
        .and_then(|()| write(caller, size_at, &(bytes.len() as u32).to_le_bytes()));
    if written.is_some() { OK } else { INVALID_MEMORY_ACCESS }
}

fn status(answer: Option<()>) -> i32 {
    if answer.is_some() { OK } else { INVALID_MEMORY_ACCESS }
}

fn define_headers(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_header_map_value",
        |mut caller: Call, _map: i32, key: i32, key_size: i32, address_at: i32, size_at: i32| -> i32 {
            let Some(mut key) = read(&caller, key, key_size) else { return INVALID_MEMORY_ACCESS };
            key.make_ascii_lowercase();
            let found = caller.data().headers.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
            match found {
                Some(value) => give(&mut caller, &value, address_at, size_at),
                None => NOT_FOUND,
            }
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_header_map_pairs",
        |mut caller: Call, _map: i32, address_at: i32, size_at: i32| -> i32 {
            let pairs = serialize(&caller.data().headers);
            give(&mut caller, &pairs, address_at, size_at)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_remove_header_map_value",
        |mut caller: Call, _map: i32, key: i32, key_size: i32| -> i32 {
            let Some(mut key) = read(&caller, key, key_size) else { return INVALID_MEMORY_ACCESS };
            key.make_ascii_lowercase();
            caller.data_mut().headers.retain(|(name, _)| *name != key);
            OK
        },
    )?;
    Ok(())
}

fn serialize(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in pairs {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        bytes.extend(name);
        bytes.push(0);
        bytes.extend(value);
        bytes.push(0);
    }
    bytes
}

fn define_buffers_and_properties(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap(
        "env",
        "proxy_get_buffer_bytes",
        |mut caller: Call, buffer: i32, start: i32, length: i32, address_at: i32, size_at: i32| -> i32 {
            let host = caller.data();
            let bytes = match buffer {
                PLUGIN_CONFIGURATION => &host.config,
                REQUEST_BODY => &host.body,
                _ => return NOT_FOUND,
            };
            let end = bytes.len().min((start as u32 as usize).saturating_add(length as u32 as usize));
            let Some(part) = bytes.get(start as u32 as usize..end) else { return BAD_ARGUMENT };
            let part = part.to_vec();
            give(&mut caller, &part, address_at, size_at)
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_buffer_bytes",
        |mut caller: Call, buffer: i32, _start: i32, _length: i32, data: i32, size: i32| -> i32 {
            let Some(bytes) = read(&caller, data, size) else { return INVALID_MEMORY_ACCESS };
            if buffer != REQUEST_BODY {
                return BAD_ARGUMENT;
            }
            caller.data_mut().body = bytes;
            OK
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_get_property",
        |mut caller: Call, path: i32, path_size: i32, address_at: i32, size_at: i32| -> i32 {
            let Some(path) = read(&caller, path, path_size) else { return INVALID_MEMORY_ACCESS };
            let host = caller.data();
            let mut known = host.set_properties.iter().chain(&host.properties);
            match known.find(|(name, _)| *name == path).map(|(_, value)| value.clone()) {
                Some(value) => give(&mut caller, &value, address_at, size_at),
                None => NOT_FOUND,
            }
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_set_property",
        |mut caller: Call, path: i32, path_size: i32, value: i32, size: i32| -> i32 {
            let (Some(path), Some(value)) = (read(&caller, path, path_size), read(&caller, value, size)) else {
                return INVALID_MEMORY_ACCESS;
            };
            caller.data_mut().set_properties.push((path, value));
            OK
        },
    )?;
    Ok(())
}

fn define_streams(linker: &mut Linker<Host>) -> Result<()> {
    linker.func_wrap("env", "proxy_log", |caller: Call, _level: i32, message: i32, size: i32| -> i32 {
        status(read(&caller, message, size).map(drop))
    })?;
    linker.func_wrap(
        "env",
        "proxy_send_local_response",
        |mut caller: Call,
         code: i32,
         details: i32,
         details_size: i32,
         body: i32,
         body_size: i32,
         headers: i32,
         headers_size: i32,
         _grpc: i32|
         -> i32 {
            let (Some(_), Some(body), Some(_)) = (
                read(&caller, details, details_size),
                read(&caller, body, body_size),
                read(&caller, headers, headers_size),
            ) else {
                return INVALID_MEMORY_ACCESS;
            };
            caller.data_mut().reply = Some((code, body));
            OK
        },
    )?;
    linker.func_wrap(
        "env",
        "proxy_call_foreign_function",
        |_: Call, _: i32, _: i32, _: i32, _: i32, _: i32, _: i32| -> i32 { NOT_FOUND },
    )?;
    linker.func_wrap("env", "proxy_set_effective_context", |_: Call, _: i32| -> i32 { OK })?;
    linker.func_wrap("env", "proxy_set_tick_period_milliseconds", |_: Call, _: i32| -> i32 { OK })?;
    Ok(())
}

fn define_wasi(linker: &mut Linker<Host>, start: Instant) -> Result<()> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(WASI, "clock_time_get", move |mut caller: Call, clock: i32, _: i64, at: i32| -> i32 {
        let now = match clock {
            0 => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            _ => start.elapsed(),
        };
        status(write(&mut caller, at, &(now.as_nanos() as u64).to_le_bytes()))
    })?;
    linker.func_wrap(WASI, "random_get", |mut caller: Call, at: i32, size: i32| -> i32 {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let bytes: Vec<u8> = (0..size)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            })
            .collect();
        status(write(&mut caller, at, &bytes))
    })?;
    for name in ["args_sizes_get", "environ_sizes_get"] {
        linker.func_wrap(WASI, name, |mut caller: Call, count: i32, size: i32| -> i32 {
            status(write(&mut caller, count, &[0; 4]).and_then(|()| write(&mut caller, size, &[0; 4])))
        })?;
    }
    for name in ["args_get", "environ_get"] {
        linker.func_wrap(WASI, name, |_: Call, _: i32, _: i32| -> i32 { OK })?;
    }
    for name in ["fd_prestat_get", "fd_fdstat_get"] {
        linker.func_wrap(WASI, name, |_: Call, _: i32, _: i32| -> i32 { WASI_BADF })?;
    }
    // Go's garbage collector polls; nothing is ever ready.
    linker.func_wrap(WASI, "poll_oneoff", |mut caller: Call, _: i32, _: i32, _: i32, count: i32| -> i32 {
        status(write(&mut caller, count, &[0; 4]))
    })?;
    linker.func_wrap(WASI, "sched_yield", |_: Call| -> i32 { OK })?;
    Ok(())
}

struct Plugin {
    store: Store<Host>,
    create: TypedFunc<(i32, i32), ()>,
    request_headers: TypedFunc<(i32, i32, i32), i32>,
    request_body: TypedFunc<(i32, i32, i32), i32>,
    log: TypedFunc<i32, ()>,
    done: TypedFunc<i32, i32>,
    delete: TypedFunc<i32, ()>,
    order: Order,
    next_context: i32,
}

impl Plugin {
    fn start(path: &str, order: Order) -> Result<Self> {
        // Interruptible, as labkit's engine is: a host for plugins must be able to stop them.
        let mut config = Config::new();
        config.epoch_interruption(true);
        let engine = Engine::new(&config)?;
        let module = Module::from_file(&engine, path)?;
        let mut linker = Linker::new(&engine);
        define_headers(&mut linker)?;
        define_buffers_and_properties(&mut linker)?;
        define_streams(&mut linker)?;
        define_wasi(&mut linker, Instant::now())?;
        linker.define_unknown_imports_as_traps(&module)?;

        let bytes = |pairs: &[(String, String)]| -> Vec<(Vec<u8>, Vec<u8>)> {
            pairs.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect()
        };
        let host = Host {
            config: order.config.clone().into_bytes(),
            properties: bytes(&order.properties),
            ..Host::default()
        };
        let mut store = Store::new(&engine, host);
        store.set_epoch_deadline(u64::MAX / 2);
        let instance = linker.instantiate(&mut store, &module)?;
        store.data_mut().memory = instance.get_memory(&mut store, "memory");
        store.data_mut().allocate = ["malloc", "proxy_on_memory_allocate"]
            .iter()
            .find_map(|name| instance.get_typed_func(&mut store, name).ok());
        Self::configure(&instance, &mut store)?;
        Ok(Plugin {
            create: instance.get_typed_func(&mut store, "proxy_on_context_create")?,
            request_headers: instance.get_typed_func(&mut store, "proxy_on_request_headers")?,
            request_body: instance.get_typed_func(&mut store, "proxy_on_request_body")?,
            log: instance.get_typed_func(&mut store, "proxy_on_log")?,
            done: instance.get_typed_func(&mut store, "proxy_on_done")?,
            delete: instance.get_typed_func(&mut store, "proxy_on_delete")?,
            store,
            order,
            next_context: ROOT_CONTEXT + 1,
        })
    }

    fn configure(instance: &Instance, store: &mut Store<Host>) -> Result<()> {
        if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut *store, "_initialize") {
            initialize.call(&mut *store, ())?;
        }
        let size = store.data().config.len() as i32;
        instance
            .get_typed_func::<(i32, i32), ()>(&mut *store, "proxy_on_context_create")?
            .call(&mut *store, (ROOT_CONTEXT, 0))?;
        for (name, size) in [("proxy_on_vm_start", 0), ("proxy_on_configure", size)] {
            let function = instance.get_typed_func::<(i32, i32), i32>(&mut *store, name)?;
            if function.call(&mut *store, (ROOT_CONTEXT, size))? == 0 {
                bail!("{name} answered false");
            }
        }
        Ok(())
    }

    fn request(&mut self) -> Result<Option<(i32, Vec<u8>)>> {
        let context = self.next_context;
        self.next_context += 1;
        let host = self.store.data_mut();
        host.headers.clear();
        let headers = self.order.headers.iter();
        host.headers.extend(headers.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
        host.set_properties.clear();
        host.reply = None;
        let end_of_stream = i32::from(self.order.body.is_empty());
        let count = self.order.headers.len() as i32;
        self.create.call(&mut self.store, (context, ROOT_CONTEXT))?;
        self.request_headers.call(&mut self.store, (context, count, end_of_stream))?;
        if !self.order.body.is_empty() {
            self.store.data_mut().body = self.order.body.as_bytes().to_vec();
            self.request_body.call(&mut self.store, (context, self.order.body.len() as i32, 1))?;
        }
        self.log.call(&mut self.store, context)?;
        self.done.call(&mut self.store, context)?;
        self.delete.call(&mut self.store, context)?;
        Ok(self.store.data_mut().reply.take())
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: bench-host PLUGIN.wasm")?;
    let mut lines = io::stdin().lock().lines();
    let order: Order = serde_json::from_str(&lines.next().context("no order")??)?;
    let mut plugin = Plugin::start(&path, order)?;
    let mut output = io::stdout().lock();
    let (status, body) = plugin.request()?.unwrap_or((0, plugin.store.data().body.clone()));
    let reply = Reply { status, body: String::from_utf8_lossy(&body).into_owned() };
    writeln!(output, "{}", serde_json::to_string(&reply)?)?;
    output.flush()?;
    for line in lines {
        let requests: u32 = line?.trim().parse()?;
        let start = Instant::now();
        for _ in 0..requests {
            plugin.request()?;
        }
        writeln!(output, "{}", start.elapsed().as_nanos())?;
        output.flush()?;
    }
    Ok(())
}
