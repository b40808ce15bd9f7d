#define _GNU_SOURCE
#include "state.h"

#include <ctype.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HALF_WRITTEN_TRIES 20
#define POLL_MS 50

static const char *state_path(void)
{
    const char *path = getenv("LAB_GPU_STATE");
    return path && *path ? path : "/var/lib/lab-gpu/state.ini";
}

static void sleep_ms(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    nanosleep(&pause, NULL);
}

static char *read_file(const char *path)
{
    FILE *file = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;
    if (!file)
        return NULL;
    if (getdelim(&text, &size, '\0', file) < 0) {
        free(text);
        text = calloc(1, 1);
    }
    fclose(file);
    return text;
}

static void full_key(char name[VALUE_SIZE], int gpu, const char *key)
{
    if (gpu == NO_GPU)
        snprintf(name, VALUE_SIZE, "%s", key);
    else
        snprintf(name, VALUE_SIZE, "gpu%d.%s", gpu, key);
}

/* The value's start and length where this line sets the key, else NULL. */
static const char *value_of(const char *line, const char *end, const char *name, size_t *length)
{
    size_t size = strlen(name);
    while (line < end && isblank((unsigned char)*line))
        line++;
    if ((size_t)(end - line) < size || strncmp(line, name, size) != 0)
        return NULL;
    line += size;
    while (line < end && isblank((unsigned char)*line))
        line++;
    if (line == end || *line != '=')
        return NULL;
    for (line++; line < end && isblank((unsigned char)*line); line++)
        ;
    while (end > line && isspace((unsigned char)end[-1]))
        end--;
    *length = (size_t)(end - line);
    return line;
}

int state_find(const struct state *state, int gpu, const char *key, char value[VALUE_SIZE])
{
    char name[VALUE_SIZE];
    int found = 0;
    full_key(name, gpu, key);
    for (const char *line = state->text; *line;) {
        const char *end = strchrnul(line, '\n');
        size_t length;
        const char *start = value_of(line, end, name, &length);
        if (start) {
            snprintf(value, VALUE_SIZE, "%.*s", (int)length, start);
            found = 1;
        }
        line = *end ? end + 1 : end;
    }
    return found;
}

int state_open(struct state *state)
{
    char value[VALUE_SIZE];
    for (int half_written = 0;;) {
        state->text = read_file(state_path());
        if (!state->text)
            return DRIVER_NOT_LOADED;
        if (!state_find(state, NO_GPU, "count", value)) {
            if (++half_written == HALF_WRITTEN_TRIES)
                return UNKNOWN;
        } else if (!state_find(state, NO_GPU, "hang", value) || strcmp(value, "0") == 0) {
            return OK;
        }
        state_close(state);
        sleep_ms(POLL_MS);
    }
}

void state_close(struct state *state)
{
    free(state->text);
    state->text = NULL;
}

int state_text(const struct state *state, int gpu, const char *key, char value[VALUE_SIZE])
{
    return state_find(state, gpu, key, value) ? OK : UNKNOWN;
}

int state_number(const struct state *state, int gpu, const char *key, double *number)
{
    char value[VALUE_SIZE], *end;
    if (!state_find(state, gpu, key, value))
        return UNKNOWN;
    *number = strtod(value, &end);
    return end != value && *end == '\0' ? OK : UNKNOWN;
}

int state_injected(const struct state *state, int gpu, const char *function)
{
    char key[VALUE_SIZE], value[VALUE_SIZE];
    snprintf(key, sizeof key, "error.%s", function);
    if (state_find(state, gpu, key, value) || state_find(state, NO_GPU, key, value))
        return atoi(value);
    return OK;
}

static int write_changed(FILE *file, const char *text, const char *name, const char *value)
{
    for (const char *line = text; *line;) {
        const char *end = strchrnul(line, '\n');
        size_t length;
        if (!value_of(line, end, name, &length))
            fprintf(file, "%.*s\n", (int)(end - line), line);
        line = *end ? end + 1 : end;
    }
    return fprintf(file, "%s = %s\n", name, value) > 0;
}

static int replace(const char *path, const char *name, const char *value)
{
    char temporary[PATH_MAX];
    char *text = read_file(path);
    FILE *file = NULL;
    int done = 0;
    if (text && snprintf(temporary, sizeof temporary, "%s.new", path) < (int)sizeof temporary)
        file = fopen(temporary, "we");
    if (file) {
        done = write_changed(file, text, name, value);
        done = fclose(file) == 0 && done && rename(temporary, path) == 0;
    }
    free(text);
    return done ? OK : UNKNOWN;
}

int state_set(int gpu, const char *key, const char *value)
{
    char name[VALUE_SIZE], directory[PATH_MAX];
    int lock, status;
    full_key(name, gpu, key);
    snprintf(directory, sizeof directory, "%s", state_path());
    lock = open(dirname(directory), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0)
        return UNKNOWN;
    flock(lock, LOCK_EX); /* two callers must not lose each other's change */
    status = replace(state_path(), name, value);
    close(lock);
    return status;
}
