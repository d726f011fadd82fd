/* cmocka wants these before it; every test includes this one file. */
#ifndef CLM_TESTS_CMOCKA_ALL_H
#define CLM_TESTS_CMOCKA_ALL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#endif
