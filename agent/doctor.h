/*
 * `clm-agent doctor`: looks at everything that the agent needs, one row a check, and says what is wrong and
 * how to mend it. Starts and changes nothing; speaks to the gateway from a confined child.
 */
#ifndef CLM_AGENT_DOCTOR_H
#define CLM_AGENT_DOCTOR_H

/* Prints to stdout. 0: nothing is wrong (warnings may be); 1: something is. */
int doctor_main(const char *config_path, const char *state_dir);

#endif
