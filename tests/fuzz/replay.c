/*
 * Runs LLVMFuzzerTestOneInput over every file of a corpus directory, then over mutations of them from a fixed
 * seed: the same inputs on every machine. argv: DIRECTORY|FILE [ROUNDS a file, default 2000] [SEED]. The
 * input that stops the process is left in ./fuzz-crash (with ASAN_OPTIONS=abort_on_error=1, as ctest sets
 * it).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUT_MAX (256u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t seed = 0x9e3779b97f4a7c15;

/* xorshift64*: repeatable, nothing more is asked of it. */
static uint32_t next_random(void)
{
    seed ^= seed >> 12;
    seed ^= seed << 25;
    seed ^= seed >> 27;
    return (uint32_t)((seed * 0x2545f4914f6cdd1d) >> 32);
}

static const uint8_t *now_data;
static size_t now_size;

static void on_abort(int sig)
{
    int fd = open("fuzz-crash", O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, now_data, now_size) < 0)
        _exit(3);
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

static void run(const uint8_t *data, size_t size)
{
    now_data = data;
    now_size = size;
    /* Exactly sized, so that a sanitizer sees the first byte read past the end. */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t mutate(uint8_t *data, size_t size)
{
    for (uint32_t n = 1 + next_random() % 4; n > 0 && size > 0; n--) {
        size_t at = next_random() % size;
        switch (next_random() % 5) {
        case 0:
            data[at] = (uint8_t)next_random();
            break;
        case 1:
            data[at] = (uint8_t)(data[at] ^ (1u << next_random() % 8));
            break;
        case 2: /* cut */
            size = at;
            break;
        case 3: /* drop one */
            memmove(data + at, data + at + 1, size - at - 1);
            size--;
            break;
        default: { /* repeat a stretch */
            size_t len = 1 + next_random() % 32;
            if (len > size - at)
                len = size - at;
            if (size + len <= INPUT_MAX) {
                memmove(data + at + len, data + at, size - at);
                size += len;
            }
        }
        }
    }
    return size;
}

static int run_file(const char *path, long rounds)
{
    static uint8_t original[INPUT_MAX], changed[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    size_t size = fread(original, 1, sizeof(original), file);
    fclose(file);
    run(original, size);
    for (long i = 0; i < rounds; i++) {
        memcpy(changed, original, size);
        run(changed, mutate(changed, size));
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s DIRECTORY|FILE [ROUNDS] [SEED]\n", argv[0]);
        return 2;
    }
    long rounds = argc > 2 ? strtol(argv[2], NULL, 10) : 2000;
    if (argc > 3)
        seed += 2 * strtoull(argv[3], NULL, 10);
    (void)signal(SIGABRT, on_abort);
    struct dirent **entries;
    int count = scandir(argv[1], &entries, NULL, alphasort);
    if (count < 0 && errno == ENOTDIR)
        return run_file(argv[1], rounds);
    int files = 0, failed = count < 0;
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", argv[1], entries[i]->d_name);
        if (entries[i]->d_name[0] != '.') {
            failed |= run_file(path, rounds);
            files++;
        }
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    printf("%d files, %ld mutations of each\n", files, rounds);
    return failed || files == 0;
}
