/* One program per test file: list the tests, run them, end with libcheck's line. */
#ifndef BLX_TESTS_HARNESS_H
#define BLX_TESTS_HARNESS_H

#include <check.h>
#include <stdlib.h>

/* BLX_TEST_MAIN("map", test_a, test_b): a main() that runs these START_TEST functions. */
#define BLX_TEST_MAIN(suite_name, ...)                                                           \
  int main(void) {                                                                               \
    const TTest *const tests[] = {__VA_ARGS__};                                                  \
    Suite *suite = suite_create(suite_name);                                                     \
    TCase *tcase = tcase_create(suite_name);                                                     \
    tcase_set_timeout(tcase, 120);                                                               \
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) tcase_add_test(tcase, tests[i]); \
    suite_add_tcase(suite, tcase);                                                               \
    SRunner *runner = srunner_create(suite);                                                     \
    srunner_run_all(runner, CK_NORMAL);                                                          \
    int failed = srunner_ntests_failed(runner);                                                  \
    srunner_free(runner);                                                                        \
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;                                            \
  }

#endif
