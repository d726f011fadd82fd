/*
 * What nginx serves on TLS, read from its configuration: which file, under which names, on which sockets.
 * nginx itself resolves nothing for us but its own dump (`nginx -T`); the text is parsed in a confined child.
 * Runs in a task's child or in `clm-agent setup`; blocking.
 */
#ifndef CLM_AGENT_PRESETS_NGINX_H
#define CLM_AGENT_PRESETS_NGINX_H

#include "kinds/confine.h"

#define NGINX_DEFAULT_PROGRAM "/usr/sbin/nginx"
#define NGINX_DEFAULT_CONF    "/etc/nginx/nginx.conf"
#define NGINX_DUMP_MAX        (4 * 1024 * 1024)

/* Runs argv (…, "-T") and parses its dump; facts->servers has one row for each pair of certificate and key.
 */
enum code nginx_look_dump(char *const *argv, struct arena *arena, const Clm__Agent__Facts **ret,
                          struct status *st) MUST_CHECK;
/* The same from the files below conf's directory, where nginx may not be run. */
enum code nginx_look_files(const char *conf, struct arena *arena, const Clm__Agent__Facts **ret,
                           struct status *st) MUST_CHECK;

/* Pure: the text of a dump, `# configuration file PATH:` before each file, the main one first. For
 * confine_run. */
void nginx_parse(void *dump /* struct bytes */, struct arena *arena, Clm__Agent__Facts *facts);

#endif
