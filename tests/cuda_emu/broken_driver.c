/* broken_driver.c - a libcuda.so.1 that tells its version and has nothing else. */
__attribute__((visibility("default"))) int cuDriverGetVersion(int *version);

int cuDriverGetVersion(int *version)
{
    *version = 12040;
    return 0;
}
