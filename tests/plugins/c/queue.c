/* Sends the name of each request through a shared queue to itself, and lets the request go when it comes out again. */
#include "proxy_wasm.h"

#define WAITING 16

typedef struct {
  uint32_t id;
  size_t size;
  char name[64];
} waiting_t;

static waiting_t waiting[WAITING];
static uint32_t queue, root_id;

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t root) {
  if (!root) root_id = id;
}

uint32_t EXPORT(proxy_on_configure)(uint32_t id, uint32_t size) {
  (void)id, (void)size;
  arena_reset();
  return proxy_register_shared_queue("names", 5, &queue) == OK;
}

action_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, uint32_t end) {
  (void)count, (void)end;
  arena_reset();
  char *name;
  size_t size;
  if (proxy_get_header_map_value(REQUEST_HEADERS, "x-case", 6, &name, &size) != OK || size > 64) return CONTINUE;
  for (size_t i = 0; i < WAITING; i++) {
    if (waiting[i].id) continue;
    waiting[i] = (waiting_t){.id = id, .size = size};
    memcpy(waiting[i].name, name, size);
    proxy_enqueue_shared_queue(queue, name, size);
    return PAUSE;
  }
  return CONTINUE;
}

void EXPORT(proxy_on_queue_ready)(uint32_t id, uint32_t ready) {
  (void)id;
  arena_reset();
  char *name;
  size_t size;
  while (proxy_dequeue_shared_queue(ready, &name, &size) == OK) {
    for (size_t i = 0; i < WAITING; i++) {
      waiting_t *one = &waiting[i];
      if (!one->id || one->size != size) continue;
      size_t same_bytes = 0;
      while (same_bytes < size && one->name[same_bytes] == name[same_bytes]) same_bytes++;
      if (same_bytes != size) continue;
      proxy_set_effective_context(one->id);
      one->id = 0;
      proxy_add_header_map_value(REQUEST_HEADERS, "x-queued", 8, name, size);
      proxy_continue_stream(REQUEST_STREAM);
      proxy_set_effective_context(root_id);
    }
  }
}

uint32_t EXPORT(proxy_on_done)(uint32_t id) {
  (void)id;
  return 1;
}
