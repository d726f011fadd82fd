/* Reads the system's clocks, or the two fakes of a test. Any thread. */
#include "base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static atomic_bool faked;
static atomic_llong fake_wall, fake_mono;

static int64_t read_us(clockid_t id)
{
    struct timespec ts;
    (void)clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t clock_wall_ms(void)
{
    return atomic_load(&faked) ? atomic_load(&fake_wall) : read_us(CLOCK_REALTIME) / 1000;
}

int64_t clock_mono_ms(void)
{
    return atomic_load(&faked) ? atomic_load(&fake_mono) : read_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

void clock_fake(int64_t wall_ms)
{
    /* Monotonic time goes on from where it was: nothing armed before may find itself in the future. */
    if (!atomic_load(&faked))
        atomic_store(&fake_mono, read_us(CLOCK_MONOTONIC) / 1000);
    atomic_store(&fake_wall, wall_ms);
    atomic_store(&faked, true);
}

void clock_advance(int64_t ms)
{
    atomic_fetch_add(&fake_wall, ms);
    atomic_fetch_add(&fake_mono, ms);
}

void clock_real(void)
{
    atomic_store(&faked, false);
}

/* A page of a list holds hundreds of times: printf takes five times as long. */
static char *put_digits(char *at, int value, int n, char behind)
{
    for (int i = n; i-- > 0; value /= 10)
        at[i] = (char)('0' + value % 10);
    at[n] = behind;
    return at + n + 1;
}

void clock_format_rfc3339(int64_t wall_ms, char buf[CLOCK_RFC3339_SIZE])
{
    const int64_t year_9999_end = 253402300799999;
    if (wall_ms < 0)
        wall_ms = 0;
    if (wall_ms > year_9999_end)
        wall_ms = year_9999_end;
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    (void)gmtime_r(&s, &tm);
    char *at = put_digits(buf, tm.tm_year + 1900, 4, '-');
    at = put_digits(at, tm.tm_mon + 1, 2, '-');
    at = put_digits(at, tm.tm_mday, 2, 'T');
    at = put_digits(at, tm.tm_hour, 2, ':');
    at = put_digits(at, tm.tm_min, 2, ':');
    at = put_digits(at, tm.tm_sec, 2, '.');
    at = put_digits(at, (int)(wall_ms % 1000), 3, 'Z');
    *at = '\0';
}

/* Exactly n digits. */
static bool take_digits(const char **at, int n, int *ret)
{
    int value = 0;
    for (int i = 0; i < n; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *at += n;
    *ret = value;
    return true;
}

static bool take_char(const char **at, char c)
{
    if (**at != c)
        return false;
    (*at)++;
    return true;
}

static bool take_fraction(const char **at, int *ret_ms)
{
    *ret_ms = 0;
    if (**at != '.')
        return true;
    (*at)++;
    int digits = 0;
    for (int scale = 100; **at >= '0' && **at <= '9'; (*at)++, digits++) {
        *ret_ms += (**at - '0') * scale;
        scale /= 10;
    }
    return digits > 0;
}

static bool take_offset(const char **at, int *ret_minutes)
{
    *ret_minutes = 0;
    if (**at == 'Z' || **at == 'z') {
        (*at)++;
        return true;
    }
    int sign = **at == '+' ? 1 : **at == '-' ? -1 : 0;
    if (!sign)
        return false;
    (*at)++;
    int hours, minutes;
    if (!take_digits(at, 2, &hours) || !take_char(at, ':') || !take_digits(at, 2, &minutes) || hours > 23 ||
        minutes > 59)
        return false;
    *ret_minutes = sign * (hours * 60 + minutes);
    return true;
}

static int days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms)
{
    const char *at = text;
    int year, month, day, hour, minute, second, ms, offset;
    if (!take_digits(&at, 4, &year) || !take_char(&at, '-') || !take_digits(&at, 2, &month) ||
        !take_char(&at, '-') || !take_digits(&at, 2, &day))
        return false;
    if (!take_char(&at, 'T') && !take_char(&at, 't'))
        return false;
    if (!take_digits(&at, 2, &hour) || !take_char(&at, ':') || !take_digits(&at, 2, &minute) ||
        !take_char(&at, ':') || !take_digits(&at, 2, &second) || !take_fraction(&at, &ms) ||
        !take_offset(&at, &offset) || *at)
        return false;
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return false;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second > 59 ? 59 : second}; /* a leap second is the second before it */
    int64_t wall = ((int64_t)timegm(&tm) - offset * 60) * 1000 + ms;
    if (wall < 0 || wall > 253402300799999)
        return false;
    *ret_wall_ms = wall;
    return true;
}
