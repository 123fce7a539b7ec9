/*
 * memory-scan [--stop] PID < NEEDLES
 *
 * Reads all of a process's memory, as root, in search of secrets. Standard input holds them, one to a line. Found is
 * whatever has 16 bytes in a row of one: as it is, in UTF-16 (16 characters; V8's two-byte strings) or in base64.
 * With --stop the process stands still meanwhile, its main thread in a system call: OpenSSL makes none while it encrypts
 * a record in place, which holds the key in plain for those microseconds (src/key/README.md). On standard output comes one
 * line of JSON:
 *
 *   {"bytesRead":N,"unreadablePages":N,"found":[
 *     {"needle":0,"form":"plain","offset":"0x...","bytes":N,"whole":true,"mapping":"[heap]"}]}
 *
 * How it is fast: 16 bytes at any address hold 8 that begin at a multiple of 8. So every aligned word is looked up
 * among all the words of the secrets, and only where one is known, its surroundings are compared.
 *
 * What it reads: of private anonymous mappings, the pages that exist (/proc/PID/pagemap), even if the process itself
 * could not read them; of all other mappings, everything. Pages that are refused (memfd_secret(2)) are counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  MIN_MATCH_BYTES = 16,
  WORD_BYTES = 8,
  FILTER_BITS = 20,
  CHUNK_BYTES = 4 << 20,
  PAGEMAP_BATCH = 8192,
  STOP_TIMEOUT_MS = 2000,
};

static void die(const char *what) {
  fprintf(stderr, "memory-scan: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *must(void *memory) {
  if (memory == NULL) die("memory");
  return memory;
}

/* What is searched: one spelling of one needle. */
struct form {
  unsigned needle;
  const char *name;
  unsigned char *bytes;
  size_t length;
  size_t enough;
};

/* A word of a form; those whose hashes are equal are chained. */
struct word {
  uint64_t value;
  unsigned form;
  size_t position;
  struct word *next;
};

/* One place where a form lies in memory, though perhaps only parts of it; start is where its first byte would be. */
struct find {
  unsigned form;
  uint64_t start;
  size_t position;
  size_t longest;
  char mapping[64];
};

static struct form *forms;
static unsigned form_count;
static size_t longest_form;
static struct word *words[1 << FILTER_BITS];
static uint8_t filter[(1 << FILTER_BITS) / 8];
static struct find *finds;
static size_t find_count;

static uint64_t load(const unsigned char *bytes) {
  uint64_t word;
  memcpy(&word, bytes, sizeof word);
  return word;
}

static uint32_t hash(uint64_t word) {
  return (uint32_t)((word * 0x9e3779b97f4a7c15u) >> (64 - FILTER_BITS));
}

static void add_form(unsigned needle, const char *name, unsigned char *bytes, size_t length, size_t enough) {
  if (length < enough) return;
  forms = must(realloc(forms, (form_count + 1) * sizeof *forms));
  forms[form_count] = (struct form){needle, name, bytes, length, enough};
  for (size_t position = 0; position + WORD_BYTES <= length; position++) {
    struct word *word = must(malloc(sizeof *word));
    uint32_t slot = hash(load(bytes + position));
    *word = (struct word){load(bytes + position), form_count, position, words[slot]};
    words[slot] = word;
    filter[slot / 8] |= (uint8_t)(1 << slot % 8);
  }
  if (length > longest_form) longest_form = length;
  form_count++;
}

static void add_utf16(unsigned needle, const unsigned char *bytes, size_t length) {
  unsigned char *wide = must(calloc(length, 2));
  for (size_t i = 0; i < length; i++) wide[2 * i] = bytes[i];
  add_form(needle, "utf16", wide, 2 * length, 2 * MIN_MATCH_BYTES);
}

/* Its three spellings, for it may begin at any byte of what was encoded. */
static void add_base64(unsigned needle, const unsigned char *bytes, size_t length) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t skip = 0; skip < 3; skip++) {
    size_t groups = (length - skip) / 3;
    unsigned char *text = must(malloc(groups * 4));
    for (size_t i = 0; i < groups; i++) {
      const unsigned char *group = bytes + skip + 3 * i;
      uint32_t bits = (uint32_t)group[0] << 16 | (uint32_t)group[1] << 8 | group[2];
      for (int digit = 0; digit < 4; digit++) text[4 * i + digit] = digits[bits >> (18 - 6 * digit) & 63];
    }
    add_form(needle, "base64", text, groups * 4, MIN_MATCH_BYTES);
  }
}

static void read_needles(void) {
  unsigned char *line = NULL;
  size_t capacity = 0;
  ssize_t length;
  unsigned needle = 0;
  for (; (length = getline((char **)&line, &capacity, stdin)) > 0; needle++, line = NULL, capacity = 0) {
    if (line[length - 1] == '\n') length--;
    if (length < MIN_MATCH_BYTES) {
      fprintf(stderr, "memory-scan: needle %u is shorter than %d bytes\n", needle, MIN_MATCH_BYTES);
      exit(2);
    }
    add_form(needle, "plain", line, (size_t)length, MIN_MATCH_BYTES);
    add_utf16(needle, line, (size_t)length);
    add_base64(needle, line, (size_t)length);
  }
  if (needle == 0) {
    fprintf(stderr, "memory-scan: no needles on standard input\n");
    exit(2);
  }
}

static void record(unsigned form, uint64_t start, size_t position, size_t length, const char *mapping) {
  for (size_t i = find_count; i-- > 0;) {
    if (finds[i].form != form || finds[i].start != start) continue;
    if (length > finds[i].longest) {
      finds[i].position = position;
      finds[i].longest = length;
    }
    return;
  }
  if ((find_count & (find_count + 1)) == 0) finds = must(realloc(finds, 2 * (find_count + 1) * sizeof *finds));
  struct find *find = &finds[find_count++];
  *find = (struct find){.form = form, .start = start, .position = position, .longest = length};
  snprintf(find->mapping, sizeof find->mapping, "%s", mapping);
}

/* Grows a matching word to all that matches around it. */
static void compare(const unsigned char *memory, size_t length, size_t at, uint64_t address, const struct word *word,
                    const char *mapping) {
  const struct form *form = &forms[word->form];
  size_t left = 0;
  while (left < at && left < word->position && memory[at - left - 1] == form->bytes[word->position - left - 1]) left++;
  size_t right = WORD_BYTES;
  while (at + right < length && word->position + right < form->length &&
         memory[at + right] == form->bytes[word->position + right]) right++;
  if (left + right >= form->enough) {
    record(word->form, address + at - word->position, word->position - left, left + right, mapping);
  }
}

static void search(const unsigned char *memory, size_t length, uint64_t address, const char *mapping) {
  for (size_t at = 0; at + WORD_BYTES <= length; at += WORD_BYTES) {
    uint64_t value = load(memory + at);
    uint32_t slot = hash(value);
    if (!(filter[slot / 8] & 1 << slot % 8)) continue;
    for (const struct word *word = words[slot]; word != NULL; word = word->next) {
      if (word->value == value) compare(memory, length, at, address, word, mapping);
    }
  }
}

struct target {
  int memory;
  int pagemap;
  uint64_t bytes_read;
  uint64_t unreadable_pages;
  unsigned char *buffer; /* the end of the last chunk, then this one: a find may lie across both */
  size_t overlap;
  size_t kept;
  uint64_t kept_until;
};

static void scan_range(struct target *target, uint64_t from, uint64_t to, const char *mapping) {
  const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  unsigned char *chunk = target->buffer + target->overlap;
  while (from < to) {
    size_t wanted = to - from < CHUNK_BYTES ? (size_t)(to - from) : CHUNK_BYTES;
    ssize_t got = pread(target->memory, chunk, wanted, (off_t)from);
    if (got <= 0) {
      if (got < 0 && errno != EIO && errno != EFAULT) die("/proc/PID/mem");
      target->unreadable_pages++;
      from += page;
      continue;
    }
    size_t before = target->kept_until == from ? target->kept : 0;
    search(chunk - before, before + (size_t)got, from - before, mapping);

    target->bytes_read += (uint64_t)got;
    from += (uint64_t)got;
    target->kept = before + (size_t)got < target->overlap ? before + (size_t)got : target->overlap;
    target->kept_until = from;
    memmove(chunk - target->kept, chunk + got - target->kept, target->kept);
  }
}

static void scan_existing_pages(struct target *target, uint64_t from, uint64_t to, const char *mapping) {
  const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
  const uint64_t present_or_swapped = (uint64_t)3 << 62;
  uint64_t entries[PAGEMAP_BATCH];
  while (from < to) {
    size_t count = (to - from) / page < PAGEMAP_BATCH ? (size_t)((to - from) / page) : PAGEMAP_BATCH;
    ssize_t got = pread(target->pagemap, entries, count * sizeof *entries, (off_t)(from / page * sizeof *entries));
    if (got <= 0) die("/proc/PID/pagemap");
    count = (size_t)got / sizeof *entries;
    for (size_t i = 0; i < count;) {
      size_t first = i;
      while (i < count && entries[i] & present_or_swapped) i++;
      if (i > first) scan_range(target, from + first * page, from + i * page, mapping);
      else i++;
    }
    from += count * page;
  }
}

static bool is_kernels_own(const char *mapping) {
  return strncmp(mapping, "[vvar", 5) == 0 || strcmp(mapping, "[vsyscall]") == 0;
}

static void scan(struct target *target, pid_t pid) {
  char path[64], line[4096];
  snprintf(path, sizeof path, "/proc/%d/maps", pid);
  FILE *maps = fopen(path, "re");
  if (maps == NULL) die(path);
  while (fgets(line, sizeof line, maps) != NULL) {
    uint64_t from, to;
    unsigned long inode;
    char permissions[5];
    int name = 0;
    int fields = sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %lu %n", &from, &to, permissions, &inode, &name);
    if (fields != 4) continue;
    line[strcspn(line, "\n")] = '\0';
    const char *mapping = line[name] == '\0' ? "[anonymous]" : line + name;
    if (is_kernels_own(mapping)) continue;
    if (inode == 0 && permissions[3] == 'p') scan_existing_pages(target, from, to, mapping);
    else scan_range(target, from, to, mapping);
  }
  fclose(maps);
}

static char state_of(pid_t pid) {
  char path[64], line[512] = "";
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *stat = fopen(path, "re");
  if (stat == NULL) die(path);
  char *name_end = fgets(line, sizeof line, stat) != NULL ? strrchr(line, ')') : NULL;
  fclose(stat);
  return name_end != NULL && name_end[1] == ' ' ? name_end[2] : '?';
}

static pid_t stopped;

static void resume(void) {
  if (stopped > 0) kill(stopped, SIGCONT);
}

/* Of a stopped process. Elsewhere the number of the call is -1. */
static bool is_in_system_call(pid_t pid) {
  char path[64];
  int number;
  snprintf(path, sizeof path, "/proc/%d/syscall", pid);
  FILE *call = fopen(path, "re");
  if (call == NULL) die(path);
  bool is_known = fscanf(call, "%d", &number) == 1;
  fclose(call);
  return is_known && number >= 0;
}

static void stop(pid_t pid) {
  const struct timespec millisecond = {0, 1000000};
  stopped = pid;
  atexit(resume);
  for (int waited = 0; waited < STOP_TIMEOUT_MS; waited++) {
    if (kill(pid, SIGSTOP) != 0) die("SIGSTOP");
    for (; state_of(pid) != 'T' && waited < STOP_TIMEOUT_MS; waited++) nanosleep(&millisecond, NULL);
    if (state_of(pid) == 'T' && is_in_system_call(pid)) return;
    resume();
    nanosleep(&millisecond, NULL);
  }
  errno = ETIMEDOUT;
  die("SIGSTOP");
}

static int open_of(pid_t pid, const char *file) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/%s", pid, file);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

static void print_quoted(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\' || (unsigned char)*text < ' ') printf("\\u%04x", (unsigned char)*text);
    else putchar(*text);
  }
  putchar('"');
}

static void print(const struct target *target) {
  printf("{\"bytesRead\":%" PRIu64 ",\"unreadablePages\":%" PRIu64 ",\"found\":[", target->bytes_read,
         target->unreadable_pages);
  for (size_t i = 0; i < find_count; i++) {
    const struct find *find = &finds[i];
    const struct form *form = &forms[find->form];
    printf("%s{\"needle\":%u,\"form\":\"%s\",\"offset\":\"0x%" PRIx64 "\",\"bytes\":%zu,\"whole\":%s,\"mapping\":",
           i == 0 ? "" : ",", form->needle, form->name, find->start + find->position, find->longest,
           find->longest == form->length ? "true" : "false");
    print_quoted(find->mapping);
    putchar('}');
  }
  puts("]}");
}

int main(int count, char **arguments) {
  bool stopping = count == 3 && strcmp(arguments[1], "--stop") == 0;
  pid_t pid = count == 2 || stopping ? atoi(arguments[count - 1]) : 0;
  if (pid <= 0) {
    fprintf(stderr, "usage: memory-scan [--stop] PID < NEEDLES\n");
    return 2;
  }
  read_needles();

  struct target target = {.memory = open_of(pid, "mem"), .pagemap = open_of(pid, "pagemap")};
  target.overlap = (longest_form + WORD_BYTES - 1) / WORD_BYTES * WORD_BYTES;
  target.buffer = must(malloc(target.overlap + CHUNK_BYTES));
  if (stopping) stop(pid);
  scan(&target, pid);
  print(&target);
  return 0;
}
