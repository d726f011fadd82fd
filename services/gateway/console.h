/*
 * The console's files on the operator listener: built by Vite, embedded, the same for everybody. They hold no
 * data; what a person may see comes from the API.
 */
#ifndef CLM_GATEWAY_CONSOLE_H
#define CLM_GATEWAY_CONSOLE_H

#include <stdbool.h>

#include "http/server.h"

/* Answers requests for the console's files and pages; false leaves the request to the caller. */
bool console_serve(struct http_request *request);

#endif
