/* Runs the little program that the request carries in its header `x-script`, so that a test can call any function of
 * the ABI from any phase with any argument. A program is a list of calls separated by `;`, a call is a list of words
 * separated by `,` (escaped as %XX): the phase's letter, the function, its arguments. Every result is logged as
 * `CASE PHASE FUNCTION STATUS VALUE`, CASE being the header `x-case`. */
#include "proxy_wasm.h"

#define CONTEXTS 64
#define PROGRAM 8192
#define WORDS 40

typedef struct {
  uint32_t id, paused, token; /* token: of the last call-out */
  size_t program_size, case_size;
  char program[PROGRAM], case_id[64];
} context_t;

typedef struct {
  char *data;
  size_t size;
} word_t;

static context_t contexts[CONTEXTS];

static context_t *find(uint32_t id) {
  for (size_t i = 0; i < CONTEXTS; i++)
    if (contexts[i].id == id) return &contexts[i];
  return NULL;
}

static void report(context_t *context, const char *phase, word_t function, uint32_t status, const char *value,
                   size_t size) {
  text_t line = text_new(3 * size + 256);
  put(&line, context->case_id, context->case_size);
  put_string(&line, " ");
  put_string(&line, phase);
  put_string(&line, " ");
  put(&line, function.data, function.size);
  put_string(&line, " ");
  put_number(&line, status);
  put_string(&line, " ");
  put_escaped(&line, value, size);
  proxy_log(LOG_WARN, line.data, line.size);
}

static uint32_t number(word_t word) {
  uint32_t value = 0;
  size_t i = word.size && word.data[0] == '-';
  for (; i < word.size; i++) value = value * 10 + (uint32_t)(word.data[i] - '0');
  return word.size && word.data[0] == '-' ? 0u - value : value;
}

static int digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static size_t split(const char *call, size_t size, word_t *words) {
  size_t count = 0;
  char *out = take(size + 1);
  words[0] = (word_t){out, 0};
  for (size_t i = 0; i < size; i++) {
    if (call[i] == ',') {
      if (++count == WORDS - 1) __builtin_trap();
      words[count] = (word_t){out, 0};
      continue;
    }
    char c = call[i];
    if (c == '%' && i + 2 < size) {
      c = (char)(digit(call[i + 1]) << 4 | digit(call[i + 2]));
      i += 2;
    }
    *out++ = c;
    words[count].size++;
  }
  return count + 1;
}

static size_t pairs_of(const word_t *words, size_t from, size_t count, char **data) {
  pair_t pairs[WORDS / 2 + 1];
  size_t found = 0;
  for (size_t i = from; i + 1 < count; i += 2)
    pairs[found++] = (pair_t){words[i].data, words[i].size, words[i + 1].data, words[i + 1].size};
  return encode_pairs(pairs, found, data);
}

#define IS(name) same(word[1].data, word[1].size, name)

/* Header maps, buffers, properties: calls that answer with a value. */
static int call_data(const word_t *word, size_t count, uint32_t *status, char **value, size_t *size) {
  size_t number_found = 0;
  if (IS("get")) {
    *status = proxy_get_header_map_value(number(word[2]), word[3].data, word[3].size, value, size);
  } else if (IS("add")) {
    *status = proxy_add_header_map_value(number(word[2]), word[3].data, word[3].size, word[4].data, word[4].size);
  } else if (IS("replace")) {
    *status = proxy_replace_header_map_value(number(word[2]), word[3].data, word[3].size, word[4].data, word[4].size);
  } else if (IS("remove")) {
    *status = proxy_remove_header_map_value(number(word[2]), word[3].data, word[3].size);
  } else if (IS("pairs")) {
    *status = proxy_get_header_map_pairs(number(word[2]), value, size);
  } else if (IS("set_pairs")) {
    char *data;
    size_t encoded = pairs_of(word, 3, count, &data);
    *status = proxy_set_header_map_pairs(number(word[2]), data, encoded);
  } else if (IS("size")) {
    *status = proxy_get_header_map_size(number(word[2]), &number_found);
    text_t text = text_new(16);
    put_number(&text, number_found);
    *value = text.data, *size = text.size;
  } else if (IS("buffer")) {
    *status = proxy_get_buffer_bytes(number(word[2]), number(word[3]), number(word[4]), value, size);
  } else if (IS("set_buffer")) {
    *status = proxy_set_buffer_bytes(number(word[2]), number(word[3]), number(word[4]), word[5].data, word[5].size);
  } else if (IS("property")) {
    *status = proxy_get_property(word[2].data, word[2].size, value, size);
  } else if (IS("set_property")) {
    *status = proxy_set_property(word[2].data, word[2].size, word[3].data, word[3].size);
  } else {
    return 0;
  }
  return 1;
}

/* What outlives the stream: shared data, metrics, foreign functions. */
static int call_shared(const word_t *word, uint32_t *status, char **value, size_t *size) {
  text_t text = text_new(64);
  uint32_t id = 0;
  uint64_t found = 0;
  if (IS("shared")) {
    uint32_t cas = 0;
    *status = proxy_get_shared_data(word[2].data, word[2].size, value, size, &cas);
    return 1;
  }
  if (IS("set_shared")) {
    uint32_t cas = number(word[4]);
    if (cas) { /* 1: the stored one, 2: a stale one */
      char *old;
      size_t old_size;
      uint32_t stored = 0;
      proxy_get_shared_data(word[2].data, word[2].size, &old, &old_size, &stored);
      cas = cas == 1 ? stored : stored + 1000;
    }
    *status = proxy_set_shared_data(word[2].data, word[2].size, word[3].data, word[3].size, cas);
    return 1;
  }
  if (IS("metric")) { /* type, name, increment, record */
    *status = proxy_define_metric(number(word[2]), word[3].data, word[3].size, &id);
    if (*status != OK) return 1;
    put_number(&text, proxy_increment_metric(id, (int32_t)number(word[4])));
    put_string(&text, ",");
    if (word[5].size) put_number(&text, proxy_record_metric(id, number(word[5])));
    put_string(&text, ",");
    put_number(&text, proxy_get_metric(id, &found));
    put_string(&text, ",");
    put_number(&text, found);
    *value = text.data, *size = text.size;
    return 1;
  }
  if (IS("foreign")) {
    *status = proxy_call_foreign_function(word[2].data, word[2].size, word[3].data, word[3].size, value, size);
    return 1;
  }
  if (IS("queue")) { /* name, item: register, put, take */
    *status = proxy_register_shared_queue(word[2].data, word[2].size, &id);
    put_number(&text, proxy_enqueue_shared_queue(id, word[3].data, word[3].size));
    char *item = NULL;
    size_t item_size = 0;
    put_string(&text, ",");
    put_number(&text, proxy_dequeue_shared_queue(id, &item, &item_size));
    put_string(&text, ",");
    put(&text, item, item_size);
    put_string(&text, ",");
    put_number(&text, proxy_dequeue_shared_queue(id, &item, &item_size));
    *value = text.data, *size = text.size;
    return 1;
  }
  if (IS("resolve")) {
    *status = proxy_resolve_shared_queue(word[2].data, word[2].size, word[3].data, word[3].size, &id);
    return 1;
  }
  return 0;
}

/* What changes the stream's course. After `pause` and `return` the calls of phase `k` run once, at the next tick. */
static int call_control(context_t *context, const word_t *word, size_t count, uint32_t *status, action_t *action) {
  char *headers;
  if (IS("reply")) { /* code, details, body, grpc status, headers… */
    size_t size = pairs_of(word, 6, count, &headers);
    *status = proxy_send_local_response(number(word[2]), word[3].data, word[3].size, word[4].data, word[4].size, headers,
                                        size, (int32_t)number(word[5]));
    return 1;
  }
  if (IS("call")) { /* cluster, milliseconds, body, headers… */
    word_t all[WORDS + 2];
    memcpy(all, word, sizeof(word_t) * count);
    all[count++] = (word_t){"x-case", 6};
    all[count++] = (word_t){context->case_id, context->case_size};
    size_t size = pairs_of(all, 5, count, &headers);
    *status = proxy_http_call(word[2].data, word[2].size, headers, size, word[4].data, word[4].size, NULL, 0,
                              number(word[3]), &context->token);
    return 1;
  }
  if (IS("pause")) {
    *action = PAUSE;
    context->paused = 1;
    return 1;
  }
  if (IS("return")) {
    *action = (action_t)number(word[2]);
    context->paused = *action != CONTINUE;
    return 1;
  }
  if (IS("continue_stream")) {
    context->paused = 0;
    *status = proxy_continue_stream(number(word[2]));
    return 1;
  }
  if (IS("close_stream")) {
    *status = proxy_close_stream(number(word[2]));
    return 1;
  }
  if (IS("trap")) __builtin_trap();
  return 0;
}

/* Runs the calls of `phase`; with `end` those marked by the phase's capital letter too. */
static action_t run(context_t *context, const char *phase, int end) {
  action_t action = CONTINUE;
  if (!context) return action;
  size_t start = 0;
  for (size_t i = 0; i <= context->program_size; i++) {
    if (i < context->program_size && context->program[i] != ';') continue;
    size_t mark = arena_used;
    word_t word[WORDS] = {{0}};
    size_t count = split(context->program + start, i - start, word);
    start = i + 1;
    char letter = word[0].size ? word[0].data[0] : 0;
    if (count < 2 || (letter != phase[0] && !(end && letter == phase[0] - 32))) continue;
    uint32_t status = 0;
    char *value = NULL;
    size_t size = 0;
    if (IS("pause_unless_end")) {
      if (!end) action = PAUSE;
    } else if (!call_control(context, word, count, &status, &action) && !call_data(word, count, &status, &value, &size) &&
               !call_shared(word, &status, &value, &size)) {
      __builtin_trap();
    }
    report(context, phase, word[1], status, value, value ? size : 0);
    arena_used = mark;
  }
  return action;
}

static void begin(context_t *context) {
  char *data;
  size_t size;
  context->program_size = context->case_size = context->paused = 0;
  if (proxy_get_header_map_value(REQUEST_HEADERS, "x-script", 8, &data, &size) == OK && size < PROGRAM) {
    memcpy(context->program, data, size);
    context->program_size = size;
  }
  if (proxy_get_header_map_value(REQUEST_HEADERS, "x-case", 6, &data, &size) == OK && size < 64) {
    memcpy(context->case_id, data, size);
    context->case_size = size;
  }
}

/* Logs that a callback came, with its arguments. */
static void enter(context_t *context, const char *phase, uint32_t a, uint32_t b) {
  text_t text = text_new(32);
  put_number(&text, a);
  put_string(&text, ",");
  put_number(&text, b);
  if (context && context->case_size) report(context, phase, (word_t){"enter", 5}, 0, text.data, text.size);
}

void EXPORT(proxy_on_context_create)(uint32_t id, uint32_t root) {
  if (!root) return;
  context_t *context = find(0);
  if (!context) __builtin_trap();
  context->id = id;
  context->token = 0;
  context->program_size = context->case_size = 0;
}

uint32_t EXPORT(proxy_on_vm_start)(uint32_t id, uint32_t size) {
  (void)id, (void)size;
  return 1;
}

uint32_t EXPORT(proxy_on_configure)(uint32_t id, uint32_t size) {
  (void)id;
  arena_reset();
  char *configuration = NULL;
  size_t found = 0;
  proxy_get_buffer_bytes(PLUGIN_CONFIGURATION, 0, size, &configuration, &found);
  proxy_set_tick_period_milliseconds(20);
  return !same(configuration, found, "reject");
}

void EXPORT(proxy_on_tick)(uint32_t id) {
  arena_reset();
  for (size_t i = 0; i < CONTEXTS; i++) {
    context_t *context = &contexts[i];
    if (!context->id || !context->paused) continue;
    context->paused = 0;
    proxy_set_effective_context(context->id);
    run(context, "k", 0);
    proxy_set_effective_context(id);
  }
}

action_t EXPORT(proxy_on_request_headers)(uint32_t id, uint32_t count, uint32_t end) {
  arena_reset();
  context_t *context = find(id);
  begin(context);
  enter(context, "q", count, end);
  return run(context, "q", (int)end);
}

action_t EXPORT(proxy_on_request_body)(uint32_t id, uint32_t size, uint32_t end) {
  arena_reset();
  enter(find(id), "b", size, end);
  return run(find(id), "b", (int)end);
}

action_t EXPORT(proxy_on_request_trailers)(uint32_t id, uint32_t count) {
  arena_reset();
  enter(find(id), "t", count, 0);
  return run(find(id), "t", 0);
}

action_t EXPORT(proxy_on_response_headers)(uint32_t id, uint32_t count, uint32_t end) {
  arena_reset();
  enter(find(id), "r", count, end);
  return run(find(id), "r", (int)end);
}

action_t EXPORT(proxy_on_response_body)(uint32_t id, uint32_t size, uint32_t end) {
  arena_reset();
  enter(find(id), "d", size, end);
  return run(find(id), "d", (int)end);
}

action_t EXPORT(proxy_on_response_trailers)(uint32_t id, uint32_t count) {
  arena_reset();
  enter(find(id), "u", count, 0);
  return run(find(id), "u", 0);
}

/* Answers to call-outs come to the root context: the stream that called is found by its token. */
void EXPORT(proxy_on_http_call_response)(uint32_t id, uint32_t token, uint32_t headers, uint32_t body,
                                         uint32_t trailers) {
  arena_reset();
  for (size_t i = 0; i < CONTEXTS; i++) {
    context_t *context = &contexts[i];
    if (!context->id || context->token != token) continue;
    enter(context, "c", headers, body);
    enter(context, "c", trailers, 0);
    proxy_set_effective_context(context->id);
    run(context, "c", 0);
    proxy_set_effective_context(id);
    return;
  }
}

void EXPORT(proxy_on_log)(uint32_t id) {
  arena_reset();
  enter(find(id), "l", 0, 0);
  run(find(id), "l", 0);
}

uint32_t EXPORT(proxy_on_done)(uint32_t id) {
  arena_reset();
  enter(find(id), "o", 0, 0);
  run(find(id), "o", 0);
  return 1;
}

void EXPORT(proxy_on_delete)(uint32_t id) {
  arena_reset();
  context_t *context = find(id);
  if (!context) return;
  enter(context, "x", 0, 0);
  context->id = 0;
}
