/*
 * The signer: the child process that alone holds the CA keys. No network, no database, no files once it
 * serves (SANDBOX_SIGNER); it answers IssueRequests on one socket and enforces the profiles.
 */
#ifndef CLM_BOOTSTRAP_SIGNER_H
#define CLM_BOOTSTRAP_SIGNER_H

#define SIGNER_ISSUE_MAX 2 /* certificates in one request */
#define SIGNER_FD        3 /* the socket in a signer that the service starts */

/* Loads the CA directory, says Hello on fd, confines itself and serves until the other side closes. Returns
 * the exit code. Single-threaded process. */
int signer_run(int fd, const char *ca_dir, const char *crl_url);

#endif
