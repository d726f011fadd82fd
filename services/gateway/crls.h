/*
 * The revocation lists of the platform's issuing CAs, as this gateway serves them to whoever asks, on both
 * listeners: GET /crl/<ca>.crl. They are signed; nothing here is secret or decides anything. A gateway that
 * cannot get newer ones goes on with those that it has.
 */
#ifndef CLM_GATEWAY_CRLS_H
#define CLM_GATEWAY_CRLS_H

#include "http/server.h"

struct crls;
struct service;

struct crls *crls_new(struct service *service);
void crls_free(struct crls *crls);
/* Asks clm-bootstrap for newer ones. Blocks on the bus. */
enum code crls_fetch(struct crls *crls, struct status *st) MUST_CHECK;
/* True if the request was for a list and is answered. Any thread. */
bool crls_serve(struct crls *crls, struct http_request *request);

#endif
