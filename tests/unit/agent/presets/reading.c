/* See reading.h. */
#include "reading.h"

struct arena *arena;
struct status st;

int arena_setup(void **state)
{
    (void)state;
    arena = arena_new();
    return 0;
}

int arena_teardown(void **state)
{
    (void)state;
    arena_free(arena);
    arena = NULL;
    return 0;
}

const Clm__Agent__Facts *reading(confine_fn *read, const char *path, const char *dump)
{
    const Clm__Agent__Facts *facts = NULL;
    if (confine_run(read, dump_conf(path, dump, strlen(dump), arena), arena, &facts, &st) != CODE_OK)
        fail_msg("%s", st.msg);
    return facts;
}

static void add_list(struct buf *out, char *const *list, size_t n)
{
    assert_true(buf_puts(out, n ? " " : " -"));
    for (size_t i = 0; i < n; i++)
        assert_true(buf_printf(out, "%s%s", i ? "," : "", list[i]));
}

void assert_row(const Clm__Agent__Facts *facts, size_t row, const char *wanted)
{
    AUTO_BUF struct buf is = {0};
    if (row >= facts->n_servers)
        fail_msg("there are %zu rows", facts->n_servers);
    const Clm__Agent__ServerFacts *server = facts->servers[row];
    assert_true(buf_printf(&is, "%s %s", server->certificate, server->key));
    add_list(&is, server->names, server->n_names);
    add_list(&is, server->listens, server->n_listens);
    assert_string_equal(buf_text(&is), wanted);
}

bool has_want(const Clm__Agent__Facts *facts, const char *pattern)
{
    for (size_t i = 0; i < facts->n_wants; i++) {
        if (strcmp(facts->wants[i], pattern) == 0)
            return true;
    }
    return false;
}
