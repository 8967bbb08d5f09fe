/* 10,000 forks and execs, one after the other, and the memory before and after.
 *
 *	gcc -static -O2 -o forkexec forkexec.c
 *	./forkexec [count]
 *
 * Exit status 1: a child was not what it should be. Memory is printed, not judged: caches may grow. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* MemAvailable in KiB; -1 where there is none. */
static long available(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/meminfo", "r");
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "MemAvailable: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "child"))
		return atoi(argv[2]) % 100;
	int count = argc > 1 ? atoi(argv[1]) : 10000;
	long before = available();
	double start = now();
	for (int i = 0; i < count; i++) {
		char number[16];
		snprintf(number, sizeof number, "%d", i);
		pid_t pid = fork();
		if (pid == 0) {
			char *args[] = { argv[0], "child", number, NULL }, *env[] = { NULL };
			execve("/proc/self/exe", args, env);
			_exit(126);
		}
		int status;
		if (pid < 0 || waitpid(pid, &status, 0) != pid) {
			fprintf(stderr, "forkexec: %d: %s\n", i, strerror(errno));
			return 1;
		}
		if (!WIFEXITED(status) || WEXITSTATUS(status) != i % 100) {
			fprintf(stderr, "forkexec: %d: status %#x\n", i, status);
			return 1;
		}
	}
	double took = now() - start;
	sleep(1);
	long after = available();
	printf("forkexec: %d in %.1f s, %.0f per second; MemAvailable %ld KiB before, %ld after (%+ld)\n",
	       count, took, count / took, before, after, after - before);
	return 0;
}
