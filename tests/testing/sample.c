/* A plugin with something to expect in every phase; what it does is up to the request's headers. */
#include "proxy_wasm.h"

static void say(uint32_t level, const char *text) { proxy_log(level, text, length(text)); }

static int wants(uint32_t map, const char *key, char **value, size_t *size) {
  return proxy_get_header_map_value(map, key, length(key), value, size) == OK;
}

static void reply(uint32_t status, const char *body) {
  pair_t pairs[] = {{"X-Reply", 7, "one", 3}, {"x-reply", 7, "two", 3}};
  char *data;
  size_t size = encode_pairs(pairs, 2, &data);
  proxy_send_local_response(status, "why", 3, body, length(body), data, size, -1);
}

uint32_t EXPORT(proxy_on_vm_start)(uint32_t context, uint32_t size) { return 1; }

uint32_t EXPORT(proxy_on_configure)(uint32_t context, uint32_t size) {
  arena_reset();
  char *config = 0;
  size_t got = 0;
  proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &config, &got);
  if (same(config, got, "bad")) return 0;
  if (same(config, got, "trap")) __builtin_trap();
  proxy_log(LOG_INFO, config, got);
  say(LOG_DEBUG, "configured");
  return 1;
}

void EXPORT(proxy_on_context_create)(uint32_t context, uint32_t parent) {
  if (parent) say(LOG_INFO, "created");
}

action_t EXPORT(proxy_on_request_headers)(uint32_t context, uint32_t count, uint32_t end_of_stream) {
  arena_reset();
  char *value;
  size_t size;
  say(LOG_INFO, end_of_stream ? "request headers, end" : "request headers");
  say(LOG_DEBUG, "only seen at DEBUG");
  proxy_add_header_map_value(REQUEST_HEADERS, "x-list", 6, "added", 5);
  proxy_replace_header_map_value(REQUEST_HEADERS, "x-set", 5, "by plugin", 9);
  proxy_remove_header_map_value(REQUEST_HEADERS, "x-gone", 6);
  if (proxy_get_property("source\0geo", 10, &value, &size) == OK)
    proxy_add_header_map_value(REQUEST_HEADERS, "x-geo", 5, value, size);
  if (wants(REQUEST_HEADERS, "x-pause", &value, &size)) return PAUSE;
  if (wants(REQUEST_HEADERS, "x-trap", &value, &size)) __builtin_trap();
  if (wants(REQUEST_HEADERS, "x-reply", &value, &size)) reply(403, "denied");
  return CONTINUE;
}

static void append(uint32_t buffer, size_t size) {
  char *data;
  size_t got = 0;
  proxy_get_buffer_bytes(buffer, 0, size, &data, &got);
  if (same(data, got, "refuse")) reply(413, "too large");
  proxy_set_buffer_bytes(buffer, size, 0, "+", 1);
  if (got > 3) proxy_set_buffer_bytes(buffer, 1, 1, "_", 1);
}

action_t EXPORT(proxy_on_request_body)(uint32_t context, size_t size, uint32_t end_of_stream) {
  arena_reset();
  say(LOG_INFO, end_of_stream ? "last chunk" : "chunk");
  append(REQUEST_BODY, size);
  return CONTINUE;
}

action_t EXPORT(proxy_on_response_headers)(uint32_t context, uint32_t count, uint32_t end_of_stream) {
  arena_reset();
  char *value;
  size_t size;
  text_t line = text_new(100);
  put_string(&line, "response headers ");
  put_number(&line, count);
  proxy_log(LOG_INFO, line.data, line.size);
  if (wants(REQUEST_HEADERS, ":path", &value, &size)) say(LOG_ERROR, "sees the request in the response");
  if (wants(RESPONSE_HEADERS, "x-trap", &value, &size)) __builtin_trap();
  if (wants(RESPONSE_HEADERS, "x-fail", &value, &size)) reply(500, "failed");
  return CONTINUE;
}

action_t EXPORT(proxy_on_response_body)(uint32_t context, size_t size, uint32_t end_of_stream) {
  arena_reset();
  append(RESPONSE_BODY, size);
  return CONTINUE;
}

uint32_t EXPORT(proxy_on_done)(uint32_t context) {
  say(LOG_INFO, "done");
  return 1;
}

void EXPORT(proxy_on_log)(uint32_t context) { say(LOG_ERROR, "an access log, which suites don't have"); }
