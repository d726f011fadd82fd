#pragma once

/* A TCP port of 127.0.0.1 that nobody listens on, and that no other test process is given while this one
 * lives: for a server that is started by a test, perhaps more than once. Ends the process when there is none.
 */
int port_free(void);
