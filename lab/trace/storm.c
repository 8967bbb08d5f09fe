/*
 * storm SECONDS [SEED]: trace events are switched at random under load, and every record is read and checked.
 *
 *	writers   one per processor, bound to it: numbered marks with a checksum, and work in between that hits trace points
 *	switcher  puts events and groups on and off, and filters, and tracing as a whole
 *	reader    trace_pipe, line by line
 *
 * A record is torn if its line is not what the format says: task, number, processor, flags, time, a known event, a text; if time
 * goes back on a processor; if a mark's checksum is wrong. A record is lost if a mark's number is missing, or if a processor's
 * sched_switch (always on) does not begin with the task that the one before ended with, and no "[LOST n EVENTS]" accounts for it.
 * Whatever tracing_on shuts out is not counted: the write of such a mark fails. Writers wait for the reader, so that the rings do
 * not overflow as a rule.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TRACING "/sys/kernel/tracing/"
#define MAX_CPUS 64
#define MAX_EVENTS 2048
#define MAX_OFFS 65536
#define AHEAD 200	/* a writer waits for the reader when so many of its marks are not read */

static uint64_t state;
static uint64_t rnd(uint64_t n)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state % n;
}
static void seed(uint64_t s)
{
	state = s * 0x9e3779b97f4a7c15ull + 1;
	rnd(1);
}

/* What the processes tell each other. */
static struct shared {
	volatile int stop;			/* no more work */
	volatile uint64_t written[MAX_CPUS];	/* marks by each writer */
	volatile uint64_t read[MAX_CPUS];	/* marks of each that the reader has seen */
	volatile uint64_t switches;
	volatile int noffs;
	struct { double from, to; } offs[MAX_OFFS];	/* when tracing was off */
} *sh;

static int cpus;
static char *events[MAX_EVENTS];		/* "group:name" */
static int nevents;

static void die(const char *fmt, ...)
{
	va_list a;
	va_start(a, fmt);
	vprintf(fmt, a);
	va_end(a);
	printf(": %s\n", strerror(errno));
	exit(2);
}

static int put(const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof path, TRACING "%s", file);
	int fd = open(path, O_WRONLY);
	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

/* The clock of the records. */
static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static uint32_t checksum(uint32_t writer, uint64_t n)
{
	uint64_t h = (n + 1) * 0xff51afd7ed558ccdull ^ (uint64_t)writer << 40;
	return (uint32_t)(h ^ h >> 29);
}

/* Work that hits trace points of every group. */
static void work(int a, int b)
{
	char c = 0;
	switch (rnd(6)) {
	case 0: {
		pid_t p = fork();
		if (p == 0) {
			raise(SIGUSR1);
			_exit(0);
		}
		waitpid(p, NULL, 0);
		break;
	}
	case 1:
		usleep(rnd(2000));
		break;
	case 2:
		if (write(a, &c, 1) != 1 || read(b, &c, 1) != 1)
			die("socket");
		break;
	case 3: {
		char *m = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int i = 0; i < 16; i++)
			m[i << 12] = 1;
		munmap(m, 1 << 16);
		break;
	}
	case 4:
		sched_yield();
		break;
	default:
		for (int i = rnd(20); i > 0; i--)
			getppid();
	}
}

static void writer(int me, uint64_t s)
{
	seed(s + 100 + me);
	signal(SIGUSR1, SIG_IGN);
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(me, &set);
	sched_setaffinity(0, sizeof set, &set);
	int mark = open(TRACING "trace_marker", O_WRONLY), pair[2];
	if (mark < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		die("writer");
	uint64_t n = 0;
	while (!sh->stop) {
		char text[64];
		int len = snprintf(text, sizeof text, "storm %d %llu %08x", me, (unsigned long long)n, checksum(me, n));
		if (write(mark, text, len) == len)
			sh->written[me] = ++n;
		for (int i = rnd(4); i > 0; i--)
			work(pair[0], pair[1]);
		while (n - sh->read[me] > AHEAD && !sh->stop)
			usleep(5000);
	}
	_exit(0);
}

static int is(const char *event, const char *name)
{
	return !strcmp(strchr(event, ':') + 1, name);
}

/* sched_switch stays: the reader follows it. */
static void switcher(uint64_t s)
{
	seed(s + 7);
	while (!sh->stop) {
		const char *e = events[rnd(nevents)];
		char path[300], group[100];
		int glen = strchr(e, ':') - e;
		snprintf(group, sizeof group, "%.*s", glen, e);
		snprintf(path, sizeof path, "events/%s/%s/", group, strchr(e, ':') + 1);
		int r = rnd(20);
		if (r < 10 && !is(e, "sched_switch")) {
			put(strcat(path, "enable"), rnd(2) ? "1" : "0");
		} else if (r < 13 && strcmp(group, "sched")) {
			snprintf(path, sizeof path, "events/%s/enable", group);
			put(path, rnd(2) ? "1" : "0");
		} else if (r < 17 && !is(e, "sched_switch")) {
			char f[64];
			snprintf(f, sizeof f, rnd(2) ? "common_pid > %d" : "common_pid & 1 || common_pid < %d", (int)rnd(500));
			put(strcat(path, "filter"), rnd(3) ? f : "0");
		} else if (r < 18) {
			put("events/enable", "1");
		} else if (r < 19) {
			char t[120];
			snprintf(t, sizeof t, is(e, "sched_switch") ? "%s" : "!%s", e);
			put("set_event", t);
		} else if (rnd(10) == 0) {
			int n = sh->noffs;
			if (n == MAX_OFFS)
				continue;
			sh->offs[n].from = now(), sh->offs[n].to = 1e18;
			__sync_synchronize();
			sh->noffs = n + 1;
			put("tracing_on", "0");
			usleep(rnd(3000));
			put("tracing_on", "1");
			sh->offs[n].to = now();
		}
		sh->switches++;
		usleep(rnd(2000));
	}
	_exit(0);
}

/* The reader. */
static uint64_t lines, marks, lost, torn, missing, chained;
static uint64_t next_mark[MAX_CPUS], allowed[MAX_CPUS];
static double last_time[MAX_CPUS], last_switch[MAX_CPUS];
static int last_pid[MAX_CPUS], chain[MAX_CPUS];	/* chain: the next sched_switch must fit */

static void bad(uint64_t *count, const char *why, const char *line)
{
	if (++*count <= 20)
		printf("%s: %s\n", why, line);
}

static int known(const char *name, int len)
{
	for (int i = 0; i < nevents; i++) {
		const char *n = strchr(events[i], ':') + 1;
		if (!strncmp(n, name, len) && !n[len])
			return 1;
	}
	return len == 18 && !strncmp(name, "tracing_mark_write", 18);
}

static void mark_line(const char *body, int cpu, const char *line)
{
	int w, used = 0;
	unsigned long long n;
	unsigned sum;
	if (sscanf(body, "storm %d %llu %8x%n", &w, &n, &sum, &used) != 3 || body[used])
		return bad(&torn, "torn mark", line);
	if (w != cpu || sum != checksum(w, n))
		return bad(&torn, "wrong mark", line);
	marks++;
	if (n < next_mark[w])
		return bad(&torn, "mark seen twice", line);
	uint64_t gap = n - next_mark[w];
	next_mark[w] = n + 1;
	sh->read[w] = n + 1;
	if (gap > allowed[w]) {
		missing += gap - allowed[w] - 1;
		bad(&missing, "marks missing before", line);
		gap = allowed[w];
	}
	allowed[w] -= gap;
}

/* Whether tracing was off at some time between two: they are printed in microseconds. */
static int was_off(double from, double to)
{
	for (int i = sh->noffs - 1; i >= 0; i--)
		if (sh->offs[i].from < to + 1e-5 && sh->offs[i].to > from - 1e-5)
			return 1;
	return 0;
}

static void switch_line(const char *body, int cpu, double t, const char *line)
{
	const char *p = strstr(body, " prev_pid="), *q = strstr(body, " next_pid=");
	if (strncmp(body, "prev_comm=", 10) || !p || !q || !strstr(body, " ==> next_comm=") || !strstr(q, " next_prio="))
		return bad(&torn, "torn sched_switch", line);
	int prev = atoi(p + 10), next = atoi(q + 10);
	if (chain[cpu] && last_pid[cpu] != prev && !was_off(last_switch[cpu], t))
		bad(&missing, "a switch is missing before", line);
	chained += chain[cpu];
	chain[cpu] = 1, last_pid[cpu] = next, last_switch[cpu] = t;
}

static void check(char *line)
{
	int cpu, used = 0;
	unsigned long long n;
	double t;
	if (sscanf(line, "CPU:%d [LOST %llu EVENTS]%n", &cpu, &n, &used) == 2 && used && cpu < cpus) {
		lost += n;
		allowed[cpu] += n;
		chain[cpu] = 0;
		return;
	}
	lines++;
	/* "            bash-123     [000] d..2.   12.345678: name: text": a command's name may contain anything. */
	char *b = NULL, flags[16];
	for (char *p = line; (p = strchr(p, '[')); p++)
		if (p > line && p[-1] == ' ' && sscanf(p, "[%3d] %15s %lf:%n", &cpu, flags, &t, &used) == 3 && p[4] == ']') {
			b = p + used;
			break;
		}
	if (!b || cpu >= cpus || strlen(flags) != 5 || *b != ' ')
		return bad(&torn, "torn line", line);
	char *name = ++b, *colon = strstr(b, ": ");
	if (!colon || !known(name, colon - name))
		return bad(&torn, "unknown event", line);
	if (t < last_time[cpu])
		bad(&torn, "time goes back", line);
	last_time[cpu] = t;
	char *body = colon + 2;
	if (!strncmp(name, "tracing_mark_write", 18))
		return mark_line(body, cpu, line);
	if (!strncmp(name, "sched_switch:", 13))
		return switch_line(body, cpu, t, line);
	for (char *p = body; *p; p++)
		if ((unsigned char)*p < ' ' && *p != '\t')
			return bad(&torn, "a byte that is no text", line);
}

/* Reads what there is for `ms` at most; returns whether there was anything. */
static int drain(int fd, int ms)
{
	static char buf[1 << 16];
	static size_t have;
	struct pollfd p = { fd, POLLIN, 0 };
	if (poll(&p, 1, ms) <= 0)
		return 0;
	ssize_t n = read(fd, buf + have, sizeof buf - have - 1);
	if (n <= 0)
		return 0;
	have += n;
	char *at = buf, *nl;
	while ((nl = memchr(at, '\n', buf + have - at))) {
		*nl = 0;
		check(at);
		at = nl + 1;
	}
	have -= at - buf;
	memmove(buf, at, have);
	if (have > 8192) {
		bad(&torn, "a line without end", "");
		have = 0;
	}
	return 1;
}

static void read_events(void)
{
	FILE *f = fopen(TRACING "available_events", "r");
	char line[200];
	if (!f)
		die("available_events");
	while (nevents < MAX_EVENTS && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		events[nevents++] = strdup(line);
	}
	fclose(f);
}

int main(int argc, char **argv)
{
	int seconds = argc > 1 ? atoi(argv[1]) : 10;
	uint64_t s = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	mount("trace", TRACING, "tracefs", 0, NULL);
	cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (cpus > MAX_CPUS)
		cpus = MAX_CPUS;
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	read_events();
	put("events/enable", "0");
	put("buffer_size_kb", "16384");
	/* What the reader does would be read again, and so on. */
	char self[16];
	snprintf(self, sizeof self, "%d", getpid());
	put("set_event_notrace_pid", self);
	put("trace_clock", "mono");
	put("trace", "");
	int pipe = open(TRACING "trace_pipe", O_RDONLY | O_NONBLOCK);
	if (pipe < 0 || put("events/sched/sched_switch/enable", "1"))
		die("tracefs");
	for (int i = 0; i < cpus; i++)
		if (fork() == 0)
			writer(i, s);
	if (fork() == 0)
		switcher(s);
	time_t end = time(NULL) + seconds, tell = time(NULL) + 60;
	while (time(NULL) < end) {
		drain(pipe, 100);
		if (time(NULL) >= tell) {
			tell += 60;
			printf("%llu lines, %llu marks, %llu lost and told, %llu torn, %llu missing\n", (unsigned long long)lines,
			       (unsigned long long)marks, (unsigned long long)lost, (unsigned long long)torn, (unsigned long long)missing);
		}
	}
	sh->stop = 1;
	put("tracing_on", "1");
	while (waitpid(-1, NULL, WNOHANG) >= 0)
		drain(pipe, 10);
	/* Reading makes records too. */
	put("events/enable", "0");
	while (drain(pipe, 300))
		;
	uint64_t written = 0;
	for (int i = 0; i < cpus; i++) {
		written += sh->written[i];
		if (sh->written[i] - next_mark[i] > allowed[i]) {
			printf("writer %d wrote %llu, seen up to %llu\n", i, (unsigned long long)sh->written[i],
			       (unsigned long long)next_mark[i]);
			missing++;
		}
	}
	printf("%llu switchings; %llu lines, %llu of %llu marks, %llu switches that fit; %llu records lost and told\n",
	       (unsigned long long)sh->switches, (unsigned long long)lines, (unsigned long long)marks, (unsigned long long)written,
	       (unsigned long long)chained, (unsigned long long)lost);
	int ok = !torn && !missing && marks > 0 && chained > 0;
	printf("STORM %s: seed %llu, %llu torn, %llu missing\n", ok ? "ok" : "FAILED", (unsigned long long)s, (unsigned long long)torn,
	       (unsigned long long)missing);
	return !ok;
}
