// Makes a process see the wall clock ahead by as many milliseconds as stand in the file $STEPWELL_CLOCK (eight bytes, as this
// machine writes an int64_t), and at once when they change. Monotonic clocks, and with them every sleep, stay what they are.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *ahead;
static int (*machine)(clockid_t, struct timespec *);

__attribute__((constructor)) static void find(void) {
    machine = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("STEPWELL_CLOCK");
    int file = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *page = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED)
        ahead = page;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!machine)
        machine = dlsym(RTLD_NEXT, "clock_gettime");
    int result = machine(clock, time);
    if (result == 0 && ahead && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t milliseconds = *ahead;
        int64_t nanoseconds = time->tv_nsec + milliseconds % 1000 * 1000000;
        time->tv_sec += milliseconds / 1000 + nanoseconds / 1000000000;
        time->tv_nsec = nanoseconds % 1000000000;
    }
    return result;
}
