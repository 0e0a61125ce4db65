/* The proxy-wasm ABI 0.2.1 for plugins in C without a C library: the host's functions, a small allocator, text. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name) __attribute__((export_name(#name))) name
#define HOST(name) __attribute__((import_module("env"), import_name(#name))) name

typedef enum { OK = 0, NOT_FOUND = 1, BAD_ARGUMENT = 2 } status_t;
typedef enum { CONTINUE = 0, PAUSE = 1 } action_t;
enum { REQUEST_HEADERS, REQUEST_TRAILERS, RESPONSE_HEADERS, RESPONSE_TRAILERS, CALL_HEADERS = 6, CALL_TRAILERS = 7 };
enum { REQUEST_BODY, RESPONSE_BODY, CALL_BODY = 4, VM_CONFIGURATION = 6, PLUGIN_CONFIGURATION = 7 };
enum { REQUEST_STREAM, RESPONSE_STREAM };
enum { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_CRITICAL };

status_t HOST(proxy_log)(uint32_t level, const char *text, size_t size);
status_t HOST(proxy_get_header_map_pairs)(uint32_t map, char **data, size_t *size);
status_t HOST(proxy_set_header_map_pairs)(uint32_t map, const char *data, size_t size);
status_t HOST(proxy_get_header_map_value)(uint32_t map, const char *key, size_t key_size, char **value, size_t *size);
status_t HOST(proxy_add_header_map_value)(uint32_t map, const char *key, size_t key_size, const char *value, size_t size);
status_t HOST(proxy_replace_header_map_value)(uint32_t map, const char *key, size_t key_size, const char *value,
                                              size_t size);
status_t HOST(proxy_remove_header_map_value)(uint32_t map, const char *key, size_t key_size);
status_t HOST(proxy_get_header_map_size)(uint32_t map, size_t *size);
status_t HOST(proxy_get_buffer_bytes)(uint32_t buffer, size_t start, size_t length, char **data, size_t *size);
status_t HOST(proxy_set_buffer_bytes)(uint32_t buffer, size_t start, size_t length, const char *data, size_t size);
status_t HOST(proxy_get_buffer_status)(uint32_t buffer, size_t *size, uint32_t *flags);
status_t HOST(proxy_send_local_response)(uint32_t code, const char *details, size_t details_size, const char *body,
                                         size_t body_size, const char *headers, size_t headers_size, int32_t grpc);
status_t HOST(proxy_continue_stream)(uint32_t stream);
status_t HOST(proxy_close_stream)(uint32_t stream);
status_t HOST(proxy_http_call)(const char *cluster, size_t cluster_size, const char *headers, size_t headers_size,
                               const char *body, size_t body_size, const char *trailers, size_t trailers_size,
                               uint32_t milliseconds, uint32_t *token);
status_t HOST(proxy_get_property)(const char *path, size_t path_size, char **value, size_t *size);
status_t HOST(proxy_set_property)(const char *path, size_t path_size, const char *value, size_t size);
status_t HOST(proxy_get_shared_data)(const char *key, size_t key_size, char **value, size_t *size, uint32_t *cas);
status_t HOST(proxy_set_shared_data)(const char *key, size_t key_size, const char *value, size_t size, uint32_t cas);
status_t HOST(proxy_register_shared_queue)(const char *name, size_t size, uint32_t *queue);
status_t HOST(proxy_resolve_shared_queue)(const char *vm, size_t vm_size, const char *name, size_t size,
                                          uint32_t *queue);
status_t HOST(proxy_enqueue_shared_queue)(uint32_t queue, const char *data, size_t size);
status_t HOST(proxy_dequeue_shared_queue)(uint32_t queue, char **data, size_t *size);
status_t HOST(proxy_set_tick_period_milliseconds)(uint32_t period);
status_t HOST(proxy_set_effective_context)(uint32_t context);
status_t HOST(proxy_done)(void);
status_t HOST(proxy_define_metric)(uint32_t type, const char *name, size_t size, uint32_t *metric);
status_t HOST(proxy_increment_metric)(uint32_t metric, int64_t offset);
status_t HOST(proxy_record_metric)(uint32_t metric, uint64_t value);
status_t HOST(proxy_get_metric)(uint32_t metric, uint64_t *value);
status_t HOST(proxy_call_foreign_function)(const char *name, size_t name_size, const char *data, size_t size,
                                           char **result, size_t *result_size);
status_t HOST(proxy_get_status)(uint32_t *code, char **text, size_t *size);

/* What the host hands over during one callback lives until the next callback begins. */
#define ARENA (4u << 20)
static char arena[ARENA] __attribute__((aligned(16)));
static size_t arena_used;

static void arena_reset(void) { arena_used = 0; }

static void *take(size_t size) {
  size_t start = (arena_used + 15) & ~(size_t)15;
  if (size > ARENA - start) __builtin_trap();
  arena_used = start + size;
  return arena + start;
}

void *EXPORT(proxy_on_memory_allocate)(size_t size) { return take(size); }
void EXPORT(proxy_abi_version_0_2_1)(void) {}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  for (size_t i = 0; i < size; i++) ((char *)to)[i] = ((const char *)from)[i];
  return to;
}

void *memset(void *to, int byte, size_t size) {
  for (size_t i = 0; i < size; i++) ((char *)to)[i] = (char)byte;
  return to;
}

static size_t length(const char *text) {
  size_t size = 0;
  while (text[size]) size++;
  return size;
}

static int same(const char *text, size_t size, const char *other) {
  size_t i = 0;
  while (i < size && other[i] && text[i] == other[i]) i++;
  return i == size && !other[i];
}

/* Text that is being written: always cut off at its capacity, never beyond. */
typedef struct {
  char *data;
  size_t size, capacity;
} text_t;

static text_t text_new(size_t capacity) { return (text_t){take(capacity), 0, capacity}; }

static void put(text_t *text, const char *data, size_t size) {
  for (size_t i = 0; i < size && text->size < text->capacity; i++) text->data[text->size++] = data[i];
}

static void put_string(text_t *text, const char *string) { put(text, string, length(string)); }

static void put_number(text_t *text, uint64_t number) {
  char digits[20];
  size_t count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while (number /= 10);
  while (count) put(text, &digits[--count], 1);
}

/* Everything but letters, digits and a little punctuation as %XX, so that a line stays a line. */
static void put_escaped(text_t *text, const char *data, size_t size) {
  static const char hex[] = "0123456789abcdef";
  for (size_t i = 0; i < size; i++) {
    unsigned char c = (unsigned char)data[i];
    if (c > ' ' && c < 127 && c != '%') {
      put(text, data + i, 1);
    } else {
      char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
      put(text, escape, 3);
    }
  }
}

/* A header map as the ABI passes it: count, sizes, then keys and values, each closed by a zero byte. */
typedef struct {
  const char *key;
  size_t key_size;
  const char *value;
  size_t value_size;
} pair_t;

static size_t encode_pairs(const pair_t *pairs, size_t count, char **out) {
  if (!count) {
    *out = arena;
    return 0;
  }
  size_t size = 4;
  for (size_t i = 0; i < count; i++) size += 8 + pairs[i].key_size + 1 + pairs[i].value_size + 1;
  char *data = take(size), *cursor = data + 4 + 8 * count;
  *(uint32_t *)data = (uint32_t)count;
  for (size_t i = 0; i < count; i++) {
    ((uint32_t *)data)[1 + 2 * i] = (uint32_t)pairs[i].key_size;
    ((uint32_t *)data)[2 + 2 * i] = (uint32_t)pairs[i].value_size;
    memcpy(cursor, pairs[i].key, pairs[i].key_size);
    cursor += pairs[i].key_size;
    *cursor++ = 0;
    memcpy(cursor, pairs[i].value, pairs[i].value_size);
    cursor += pairs[i].value_size;
    *cursor++ = 0;
  }
  *out = data;
  return size;
}
