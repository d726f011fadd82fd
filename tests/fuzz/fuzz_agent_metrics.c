/* Texts of /proc. The first byte chooses the reader; what one accepts stays within its bounds. */
#include <stdlib.h>
#include <string.h>

#include "agent/metrics.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_all(char which, const char *text)
{
    struct cpu_times times;
    uint64_t a, b;
    uint32_t load[3];
    if (which == 's' && metrics_parse_stat(text, &times) && times.busy > times.total)
        abort();
    if (which == 'm' && metrics_parse_meminfo(text, &a, &b) && (b > a || a == 0))
        abort();
    if (which == 'l' && metrics_parse_loadavg(text, load) && load[0] > 1000000999)
        abort();
    if (which == 'u' && metrics_parse_uptime(text, &a) && a > UINT32_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    char *text = malloc(size);
    if (!text)
        abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    read_all((char)data[0], text);
    free(text);
    return 0;
}
