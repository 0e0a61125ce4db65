//! Stamps messages with what the host knows about them: properties, sizes, times, a metric, whether trailers came.

extern "env" fn proxy_get_property(path: [*]const u8, path_size: usize, value: *[*]const u8, size: *usize) u32;
extern "env" fn proxy_add_header_map_value(map: u32, key: [*]const u8, key_size: usize, value: [*]const u8, size: usize) u32;
extern "env" fn proxy_get_header_map_size(map: u32, size: *usize) u32;
extern "env" fn proxy_send_local_response(code: u32, details: [*]const u8, details_size: usize, body: [*]const u8, body_size: usize, headers: [*]const u8, headers_size: usize, grpc: i32) u32;

var arena: [1 << 20]u8 = undefined;
var used: usize = 0;

export fn proxy_abi_version_0_2_1() void {}

export fn proxy_on_memory_allocate(size: usize) ?[*]u8 {
    const start = (used + 7) & ~@as(usize, 7);
    if (size > arena.len - start) return null;
    used = start + size;
    return arena[start..].ptr;
}

export fn proxy_on_context_create(_: u32, _: u32) void {}

fn add(map: u32, name: []const u8, value: []const u8) void {
    _ = proxy_add_header_map_value(map, name.ptr, name.len, value.ptr, value.len);
}

/// Adds a property's value under a name, or `-` when the host has none.
fn stamp(map: u32, name: []const u8, path: []const u8) void {
    var value: [*]const u8 = undefined;
    var size: usize = 0;
    if (proxy_get_property(path.ptr, path.len, &value, &size) == 0) {
        add(map, name, value[0..size]);
    } else {
        add(map, name, "-");
    }
}

fn stampSize(map: u32, name: []const u8, of: u32) void {
    var size: usize = 0;
    const status = proxy_get_header_map_size(of, &size);
    const digits = [_]u8{ '0' + @as(u8, @intCast(status)), ':', '0' + @as(u8, @intCast(size % 100 / 10)), '0' + @as(u8, @intCast(size % 10)) };
    add(map, name, &digits);
}

export fn proxy_on_request_headers(_: u32, _: u32, _: u32) u32 {
    used = 0;
    stamp(0, "x-zig-path", "request\x00path");
    stamp(0, "x-zig-url-path", "request\x00url_path");
    stamp(0, "x-zig-method", "request\x00method");
    stamp(0, "x-zig-host", "request\x00host");
    stamp(0, "x-zig-scheme", "request\x00scheme");
    stamp(0, "x-zig-query", "request\x00query");
    stamp(0, "x-zig-agent", "request\x00useragent");
    stamp(0, "x-zig-referer", "request\x00referer");
    stamp(0, "x-zig-plugin", "plugin_name");
    stamp(0, "x-zig-root", "plugin_root_id");
    stamp(0, "x-zig-vm", "plugin_vm_id");
    stamp(0, "x-zig-header", "request\x00headers\x00x-stamp");
    stampSize(0, "x-zig-size", 0);
    return 0;
}

export fn proxy_on_request_trailers(_: u32, _: u32) u32 {
    used = 0;
    stampSize(1, "x-zig-size", 1);
    return 0;
}

export fn proxy_on_response_headers(_: u32, _: u32, _: u32) u32 {
    used = 0;
    var value: [*]const u8 = undefined;
    var size: usize = 0;
    const wanted = "request\x00headers\x00x-zig-reply";
    if (proxy_get_property(wanted, wanted.len, &value, &size) == 0) {
        _ = proxy_send_local_response(409, "zig", 3, value, size, "", 0, -1);
        return 1;
    }
    stamp(2, "x-zig-header", "response\x00headers\x00x-stamp");
    stampSize(2, "x-zig-size", 2);
    stampSize(2, "x-zig-request-size", 0);
    return 0;
}

export fn proxy_on_response_trailers(_: u32, _: u32) u32 {
    used = 0;
    stampSize(3, "x-zig-size", 3);
    return 0;
}

export fn proxy_on_done(_: u32) u32 {
    return 1;
}
