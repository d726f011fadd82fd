/*
 * `clm-agent discover` and `clm-agent validate`: what the tasks of these kinds would find, by hand, without
 * the platform. The local policy holds as it does for tasks; nothing is changed and nothing sent.
 */
#ifndef CLM_AGENT_INSPECT_H
#define CLM_AGENT_INSPECT_H

/* argv[0] is the command. 0; 1: it could not be done; 2: usage; of validate 3: a check failed. */
int discover_main(int argc, char **argv);
int validate_main(int argc, char **argv);
/* The table of checks, as docs/checks.md has it. */
int checks_main(int argc, char **argv);

#endif
