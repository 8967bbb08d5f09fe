/* Mixed load with a seed: several kinds of work at once, each of which checks its own results.
 *
 *	gcc -static -O2 -pthread -o load load.c
 *	./load SECONDS [SEED [KIND]]
 *
 * One process per kind of work repeats short rounds until the time is over; a round that finds anything inconsistent prints it and
 * ends the whole run with status 1. A kind that makes no progress for STUCK seconds is an error too. One line per minute says how
 * many rounds each kind has done; the last line is `LOAD ok ...` or `LOAD FAILED ...`.
 *
 * The seed decides what each round does, not how the rounds interleave. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
/* Longer than any round takes on a slow virtual machine whose processors are all busy. */
#define STUCK 60
/* Exit status of a process that found something; no round expects it. */
#define FAILED 99

static const char *kind = "main";
static uint64_t round_no;

static void __attribute__((noreturn, format(printf, 2, 3))) fail_at(int line, const char *format, ...)
{
	int e = errno;
	char text[256];
	va_list a;
	va_start(a, format);
	vsnprintf(text, sizeof text, format, a);
	va_end(a);
	dprintf(1, "LOAD FAILED %s round %llu line %d: %s (errno %d %s)\n", kind, (unsigned long long)round_no, line, text, e, strerror(e));
	_exit(FAILED);
}
#define CHECK(x, ...) ((x) ? (void)0 : fail_at(__LINE__, #x " " __VA_ARGS__))

/* xorshift64*: one state per process or thread. */
static uint64_t next(uint64_t *s)
{
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dull;
}
static unsigned below(uint64_t *s, unsigned n)
{
	return (next(s) >> 33) % n;
}
static void fill(uint64_t *s, uint8_t *p, size_t n)
{
	while (n--)
		*p++ = next(s) >> 56;
}
static uint64_t sum(uint64_t h, const uint8_t *p, size_t n)
{
	while (n--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}
static uint64_t now_us(void)
{
	struct timespec t;
	CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
	return t.tv_sec * 1000000ull + t.tv_nsec / 1000;
}
static void *map(size_t n, int prot, int flags)
{
	void *p = mmap(NULL, n, prot, flags | MAP_ANONYMOUS, -1, 0);
	CHECK(p != MAP_FAILED, "%zu", n);
	return p;
}
/* Waits for `pid`, which must exit with `code`. */
static void collect(pid_t pid, int code)
{
	int status;
	pid_t r;
	while ((r = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	CHECK(r == pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == code, "status %#x, exit %d expected", status, code);
}
static pid_t start(void)
{
	pid_t p = fork();
	CHECK(p >= 0);
	return p;
}


/* ---- tree: fork, exec, wait. Exit codes add up to the number of leaves, which the seed tells beforehand ---- */

static int leaves(uint64_t s, int depth)
{
	int n = 0;
	if (depth == 0)
		return 1;
	for (int i = 1 + below(&s, 3); i > 0; i--)
		n += leaves(next(&s), depth - 1);
	return n;
}
static int grow(uint64_t s, int depth)
{
	if (depth == 0) {
		/* A leaf is a fresh program: this one, told to exit with 1. */
		char *args[] = { "load", "leaf", NULL }, *env[] = { "LEAF=1", NULL };
		execve("/proc/self/exe", args, env);
		CHECK(!"execve");
	}
	int width = 1 + below(&s, 3), n = 0;
	for (int i = 0; i < width; i++) {
		uint64_t branch = next(&s);
		if (start() == 0)
			_exit(grow(branch, depth - 1));
	}
	for (int i = 0; i < width; i++) {
		int status;
		CHECK(waitpid(-1, &status, 0) > 0);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) != FAILED, "status %#x", status);
		n += WEXITSTATUS(status);
	}
	CHECK(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
	return n;
}
static void tree(uint64_t *s)
{
	uint64_t seed = next(s);
	int depth = 1 + below(s, 3), want = leaves(seed, depth), got = grow(seed, depth);
	CHECK(got == want, "%d leaves of %d", got, want);
}

/* ---- pipe: data of random sizes through a pipe, both sides sum it ---- */

static void pipes(uint64_t *s)
{
	static uint8_t buf[70000];
	int p[2], back[2];
	uint64_t seed = next(s), h = 0, theirs;
	size_t total = 1 + below(s, 1 << 18), got = 0;
	CHECK(pipe(p) == 0 && pipe(back) == 0);
	pid_t child = start();
	if (child == 0) {
		close(p[0]);
		for (size_t left = total; left > 0;) {
			size_t n = 1 + below(&seed, sizeof buf);
			n = n < left ? n : left;
			fill(&seed, buf, n);
			h = sum(h, buf, n);
			left -= n;
			for (size_t done = 0; done < n;) {
				ssize_t k = write(p[1], buf + done, n - done);
				CHECK(k > 0, "%zd", k);
				done += k;
			}
		}
		CHECK(write(back[1], &h, sizeof h) == sizeof h);
		_exit(7);
	}
	close(p[1]);
	if (below(s, 2))
		CHECK(fcntl(p[0], F_SETFL, O_NONBLOCK) == 0);
	for (;;) {
		ssize_t k = read(p[0], buf, 1 + below(s, sizeof buf));
		if (k == 0)
			break;
		if (k < 0) {
			struct pollfd f = { p[0], POLLIN, 0 };
			CHECK(errno == EAGAIN && poll(&f, 1, -1) == 1 && f.revents);
			continue;
		}
		h = sum(h, buf, k);
		got += k;
	}
	CHECK(got == total, "%zu of %zu", got, total);
	CHECK(read(back[0], &theirs, sizeof theirs) == sizeof theirs && theirs == h);
	collect(child, 7);
	close(p[0]), close(back[0]), close(back[1]);
	/* Nobody reads: EPIPE, with the signal ignored. */
	CHECK(pipe(p) == 0 && signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	close(p[0]);
	CHECK(write(p[1], "x", 1) == -1 && errno == EPIPE);
	close(p[1]);
}

/* ---- signal: real-time signals come all, in order, with their values; a blocked one waits ---- */

static volatile sig_atomic_t seen, out_of_order, usr1;

static void on_rt(int n, siginfo_t *i, void *c)
{
	(void)n, (void)c;
	out_of_order |= i->si_value.sival_int != seen || i->si_code != SI_QUEUE;
	seen++;
}
static void on_usr1(int n)
{
	(void)n;
	usr1++;
}
static void signals(uint64_t *s)
{
	int count = 1 + below(s, 200), held = below(s, 2);
	struct sigaction a = { .sa_sigaction = on_rt, .sa_flags = SA_SIGINFO | SA_RESTART }, b = { .sa_handler = on_usr1 };
	sigset_t rt, usr, old, pending;
	sigemptyset(&rt), sigaddset(&rt, SIGRTMIN + 1);
	sigemptyset(&usr), sigaddset(&usr, SIGUSR1), sigaddset(&usr, SIGALRM);
	seen = out_of_order = usr1 = 0;
	CHECK(sigaction(SIGRTMIN + 1, &a, NULL) == 0 && sigaction(SIGUSR1, &b, NULL) == 0);
	/* Either all of them wait, or each interrupts whatever is going on. */
	CHECK(sigprocmask(held ? SIG_BLOCK : SIG_UNBLOCK, &rt, &old) == 0);
	pid_t me = getpid(), child = start();
	if (child == 0) {
		for (int i = 0; i < count; i++)
			CHECK(sigqueue(me, SIGRTMIN + 1, (union sigval){ .sival_int = i }) == 0);
		_exit(0);
	}
	collect(child, 0);
	if (held) {
		CHECK(seen == 0 && sigpending(&pending) == 0 && sigismember(&pending, SIGRTMIN + 1));
		CHECK(sigprocmask(SIG_UNBLOCK, &rt, NULL) == 0);
	}
	/* Signals sent before the sender ended are pending here by now. */
	CHECK(seen == count && !out_of_order, "%d of %d", (int)seen, count);

	CHECK(sigprocmask(SIG_BLOCK, &usr, &old) == 0);
	for (int i = 0; i < 3; i++)
		CHECK(kill(me, SIGUSR1) == 0);
	CHECK(usr1 == 0);
	sigdelset(&old, SIGUSR1);
	CHECK(sigsuspend(&old) == -1 && errno == EINTR && usr1 == 1, "%d deliveries", (int)usr1);
	CHECK(sigprocmask(SIG_SETMASK, &old, NULL) == 0 && usr1 == 1);
	/* A child that pauses dies of the signal that we choose. */
	int which = (int[]){ SIGTERM, SIGKILL, SIGINT }[below(s, 3)], status;
	if ((child = start()) == 0)
		for (;;)
			pause();
	CHECK(kill(child, which) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == which);
}

/* ---- memory: contents survive what is done around them ---- */

static sigjmp_buf fault_jump;
static volatile uintptr_t fault_at;

static void on_segv(int n, siginfo_t *i, void *c)
{
	(void)n, (void)c;
	fault_at = (uintptr_t)i->si_addr;
	siglongjmp(fault_jump, 1);
}
/* Whether a write (or read) at `p` faults. */
static int faults(volatile uint64_t *p, int write)
{
	if (sigsetjmp(fault_jump, 1)) {
		CHECK(fault_at == (uintptr_t)p, "%#lx", (unsigned long)fault_at);
		return 1;
	}
	uint64_t v = *p;
	if (write)
		*p = v;
	return 0;
}
static uint64_t *word(uint8_t *base, int page)
{
	return (uint64_t *)(base + (size_t)page * PAGE + page % 511 * 8);
}
static void memory(uint64_t *s)
{
	enum { N = 256 };
	struct sigaction a = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	CHECK(sigaction(SIGSEGV, &a, NULL) == 0);
	uint64_t salt = next(s);
	uint8_t *m = map(N * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE), *sh = map(N * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED);
	for (int i = 0; i < N; i++) {
		CHECK(*word(m, i) == 0 && *word(sh, i) == 0);
		*word(m, i) = salt + i;
	}
	/* Some pages become read-only, some go. */
	uint8_t state[N] = { 0 };
	for (int k = 0; k < 20; k++) {
		int at = below(s, N - 8), n = 1 + below(s, 8), gone = below(s, 3) == 0;
		for (int i = at; i < at + n; i++)
			if (state[i] == 2)
				goto next;
		if (gone)
			CHECK(munmap(m + (size_t)at * PAGE, n * PAGE) == 0);
		else
			CHECK(mprotect(m + (size_t)at * PAGE, n * PAGE, PROT_READ) == 0);
		memset(state + at, gone ? 2 : 1, n);
next:;
	}
	for (int i = 0; i < N; i++) {
		CHECK(faults(word(m, i), 0) == (state[i] == 2) && faults(word(m, i), 1) == (state[i] != 0), "page %d state %d", i, state[i]);
		CHECK(state[i] == 2 || *word(m, i) == salt + i, "page %d", i);
	}
	/* The child's private pages are its own; the shared ones are everybody's. Both write at once. */
	pid_t child = start();
	for (int i = 0; i < N; i++) {
		if (state[i] == 0)
			*word(m, i) += child ? 1000 : 2000;
		if (i % 2 == (child != 0))
			*word(sh, i) = salt ^ i;
	}
	for (int i = 0; i < N; i++)
		CHECK(state[i] == 2 || *word(m, i) == salt + i + (state[i] ? 0 : child ? 1000 : 2000), "page %d of %s", i, child ? "parent" : "child");
	if (child == 0)
		_exit(5);
	collect(child, 5);
	for (int i = 0; i < N; i++)
		CHECK(*word(sh, i) == (salt ^ i), "shared page %d", i);
	CHECK(munmap(m, N * PAGE) == 0 && munmap(sh, N * PAGE) == 0);
}

/* ---- fault: threads fault in the same pages at once; a fork meanwhile sees a still picture ---- */

enum { THREADS = 4, FAULT_PAGES = 128 };
static uint8_t *area;
static int stop_writing;

static void *fault_thread(void *arg)
{
	long me = (long)arg;
	for (int i = 0; i < FAULT_PAGES; i++) {
		int page = (i * 37 + me * 29) % FAULT_PAGES;
		uint64_t *p = (uint64_t *)(area + page * PAGE) + me;
		CHECK(*p == 0);
		*p = page * 10 + me + 1;
	}
	return NULL;
}
static void *count_thread(void *arg)
{
	volatile uint64_t *p = arg;
	while (!__atomic_load_n(&stop_writing, __ATOMIC_RELAXED))
		for (int i = 0; i < 8; i++)
			p[i * PAGE / 8]++;
	return NULL;
}
static void fault(uint64_t *s)
{
	pthread_t t[THREADS];
	area = map(FAULT_PAGES * PAGE, PROT_READ | PROT_WRITE, below(s, 2) ? MAP_PRIVATE : MAP_SHARED);
	for (long i = 0; i < THREADS; i++)
		CHECK(pthread_create(&t[i], NULL, fault_thread, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	for (int page = 0; page < FAULT_PAGES; page++)
		for (int i = 0; i < THREADS; i++)
			CHECK(((uint64_t *)(area + page * PAGE))[i] == (uint64_t)page * 10 + i + 1, "page %d thread %d", page, i);
	CHECK(munmap(area, FAULT_PAGES * PAGE) == 0);

	volatile uint64_t *p = map(8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	stop_writing = 0;
	CHECK(pthread_create(&t[0], NULL, count_thread, (void *)p) == 0);
	for (int k = 0; k < 4; k++) {
		pid_t child = start();
		if (child == 0) {
			uint64_t first[8];
			for (int i = 0; i < 8; i++)
				first[i] = p[i * PAGE / 8];
			usleep(below(s, 3000));
			for (int i = 0; i < 8; i++)
				CHECK(first[i] == p[i * PAGE / 8], "the parent's writes show in the child");
			_exit(3);
		}
		collect(child, 3);
	}
	__atomic_store_n(&stop_writing, 1, __ATOMIC_RELAXED);
	CHECK(pthread_join(t[0], NULL) == 0);
	for (int i = 1; i < 8; i++)
		CHECK(p[i * PAGE / 8] == p[0], "a write was lost");
	CHECK(munmap((void *)p, 8 * PAGE) == 0);
}

/* ---- mutex: a bounded queue between threads; a shared counter ---- */

enum { ITEMS = 2000, ROOM = 7 };
static struct {
	pthread_mutex_t lock;
	pthread_cond_t not_full, not_empty;
	int n, taken, at, queue[ROOM];
	long total, counter;
} q = { .lock = PTHREAD_MUTEX_INITIALIZER, .not_full = PTHREAD_COND_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER };

static void *producer(void *arg)
{
	for (int i = (long)arg; i < ITEMS; i += 2) {
		pthread_mutex_lock(&q.lock);
		while (q.n == ROOM)
			pthread_cond_wait(&q.not_full, &q.lock);
		q.queue[(q.at + q.n++) % ROOM] = i;
		q.counter++;
		pthread_mutex_unlock(&q.lock);
		pthread_cond_signal(&q.not_empty);
	}
	return NULL;
}
static void *consumer(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&q.lock);
	for (;;) {
		while (q.n == 0 && q.taken < ITEMS)
			pthread_cond_wait(&q.not_empty, &q.lock);
		if (q.taken == ITEMS)
			break;
		q.total += q.queue[q.at];
		q.at = (q.at + 1) % ROOM;
		q.n--, q.taken++, q.counter++;
		if (q.taken == ITEMS)
			pthread_cond_broadcast(&q.not_empty);
		pthread_cond_signal(&q.not_full);
	}
	pthread_mutex_unlock(&q.lock);
	return NULL;
}
static void mutex(uint64_t *s)
{
	pthread_t t[5];
	struct timespec until;
	q.n = q.taken = q.at = q.total = q.counter = 0;
	for (long i = 0; i < 5; i++)
		CHECK(pthread_create(&t[i], NULL, i < 2 ? producer : consumer, (void *)i) == 0);
	for (int i = 0; i < 5; i++)
		CHECK(pthread_join(t[i], NULL) == 0);
	CHECK(q.n == 0 && q.counter == 2 * ITEMS && q.total == (long)ITEMS * (ITEMS - 1) / 2, "total %ld", q.total);
	/* Nobody signals: the wait ends by its timeout, and not before. */
	/* Taken first: a switch between the two clocks must not make the wait look short. */
	uint64_t begin = now_us(), wait = 1000 + below(s, 5000);
	CHECK(clock_gettime(CLOCK_REALTIME, &until) == 0);
	until.tv_nsec += wait * 1000;
	until.tv_sec += until.tv_nsec / 1000000000, until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&q.lock);
	int r;
	while ((r = pthread_cond_timedwait(&q.not_empty, &q.lock, &until)) == 0)
		;
	pthread_mutex_unlock(&q.lock);
	CHECK(r == ETIMEDOUT && now_us() - begin + 1000 >= wait, "r %d", r);
}

/* ---- file: create, write, rename, read back, list, unlink ---- */

static void files(uint64_t *s)
{
	enum { FILES = 8 };
	static uint8_t data[40000], back[40000];
	char dir[64], a[128], b[128];
	struct stat st;
	snprintf(dir, sizeof dir, "/tmp/load.%d", getpid());
	CHECK(mkdir(dir, 0700) == 0);
	uint64_t seed[FILES];
	size_t size[FILES];
	for (int i = 0; i < FILES; i++) {
		seed[i] = next(s), size[i] = below(s, sizeof data);
		snprintf(a, sizeof a, "%s/new%d", dir, i), snprintf(b, sizeof b, "%s/f%d", dir, i);
		int fd = open(a, O_RDWR | O_CREAT | O_EXCL, 0600);
		CHECK(fd >= 0);
		uint64_t r = seed[i];
		fill(&r, data, size[i]);
		for (size_t done = 0; done < size[i];) {
			size_t n = 1 + below(s, 9000);
			n = n < size[i] - done ? n : size[i] - done;
			CHECK(write(fd, data + done, n) == (ssize_t)n);
			done += n;
		}
		/* A file mapping shows the same bytes. */
		if (size[i]) {
			uint8_t *m = mmap(NULL, size[i], PROT_READ, MAP_SHARED, fd, 0);
			CHECK(m != MAP_FAILED && memcmp(m, data, size[i]) == 0 && munmap(m, size[i]) == 0);
		}
		CHECK(rename(a, b) == 0 && stat(a, &st) == -1 && errno == ENOENT);
		CHECK(fstat(fd, &st) == 0 && (size_t)st.st_size == size[i] && st.st_nlink == 1);
		close(fd);
	}
	int found = 0;
	DIR *d = opendir(dir);
	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		found += e->d_name[0] == 'f';
	CHECK(closedir(d) == 0 && found == FILES, "%d names", found);
	for (int i = 0; i < FILES; i++) {
		snprintf(b, sizeof b, "%s/f%d", dir, i);
		int fd = open(b, O_RDWR);
		uint64_t r = seed[i];
		fill(&r, data, size[i]);
		CHECK(fd >= 0 && pread(fd, back, sizeof back, 0) == (ssize_t)size[i] && memcmp(data, back, size[i]) == 0, "file %d", i);
		/* Cut, and grow again: zeroes. */
		size_t cut = size[i] / 2;
		CHECK(ftruncate(fd, cut) == 0 && ftruncate(fd, size[i]) == 0);
		memset(data + cut, 0, size[i] - cut);
		/* Unlinked, it stays while it is open. */
		CHECK(unlink(b) == 0 && pread(fd, back, sizeof back, 0) == (ssize_t)size[i] && memcmp(data, back, size[i]) == 0, "file %d cut", i);
		close(fd);
	}
	CHECK(rmdir(dir) == 0);
}

/* ---- poll: tokens from several writers are all found by poll or select ---- */

static void polls(uint64_t *s)
{
	enum { PIPES = 5, TOKENS = 20 };
	struct pollfd f[PIPES];
	pid_t child[PIPES];
	uint8_t expect[PIPES] = { 0 };
	int by_select = below(s, 2);
	for (int i = 0; i < PIPES; i++) {
		int p[2];
		uint64_t r = next(s);
		CHECK(pipe(p) == 0);
		if ((child[i] = start()) == 0) {
			for (uint8_t k = 0; k < TOKENS; k++) {
				if (below(&r, 4) == 0)
					usleep(below(&r, 3000));
				CHECK(write(p[1], &k, 1) == 1);
			}
			_exit(i);
		}
		close(p[1]);
		f[i] = (struct pollfd){ p[0], POLLIN, 0 };
	}
	for (int open = PIPES; open > 0;) {
		fd_set set;
		int ready, top = 0;
		FD_ZERO(&set);
		for (int i = 0; i < PIPES; i++)
			if (f[i].fd >= 0) {
				FD_SET(f[i].fd, &set);
				top = f[i].fd > top ? f[i].fd : top;
			}
		ready = by_select ? select(top + 1, &set, NULL, NULL, NULL) : poll(f, PIPES, -1);
		CHECK(ready > 0);
		for (int i = 0; i < PIPES; i++) {
			uint8_t token;
			if (f[i].fd < 0 || !(by_select ? FD_ISSET(f[i].fd, &set) : f[i].revents))
				continue;
			ready--;
			ssize_t n = read(f[i].fd, &token, 1);
			CHECK(n == 1 ? token == expect[i]++ : n == 0 && expect[i] == TOKENS, "pipe %d: %zd, %d tokens", i, n, expect[i]);
			if (n == 0) {
				close(f[i].fd);
				f[i].fd = -1;
				open--;
			}
		}
		CHECK(ready == 0);
	}
	for (int i = 0; i < PIPES; i++)
		collect(child[i], i);
	int p[2];
	CHECK(pipe(p) == 0);
	struct pollfd silent = { p[0], POLLIN, 0 };
	uint64_t begin = now_us();
	int ms = below(s, 10);
	CHECK(poll(&silent, 1, ms) == 0 && now_us() - begin >= ms * 1000ull, "%d ms", ms);
	close(p[0]), close(p[1]);
}

/* ---- timer: nothing ends early; an interval timer fires again and again and interrupts sleep ---- */

static volatile sig_atomic_t ticks;

static void on_alarm(int n)
{
	(void)n;
	ticks++;
}
static void timers(uint64_t *s)
{
	struct sigaction a = { .sa_handler = on_alarm };
	CHECK(sigaction(SIGALRM, &a, NULL) == 0);
	for (int k = 0; k < 3; k++) {
		struct timespec t = { 0, 1 + below(s, 4000000) };
		uint64_t begin = now_us();
		CHECK(nanosleep(&t, NULL) == 0);
		CHECK(now_us() - begin + 1 >= (uint64_t)t.tv_nsec / 1000, "woke early");
	}
	int us = 1000 + below(s, 4000), want = 2 + below(s, 4);
	struct itimerval v = { { 0, us }, { 0, us } }, left;
	ticks = 0;
	uint64_t begin = now_us();
	CHECK(setitimer(ITIMER_REAL, &v, NULL) == 0);
	while (ticks < want) {
		struct timespec t = { 1, 0 }, rest;
		/* A tick just before the sleep is not lost: the next one ends it. */
		if (nanosleep(&t, &rest) == -1)
			/* Linux counts the timer slack, 50 us, as part of what is left. */
			CHECK(errno == EINTR && rest.tv_sec * 1000000000 + rest.tv_nsec <= 1001000000);
		else
			CHECK(!"interrupted in a second");
	}
	CHECK(getitimer(ITIMER_REAL, &left) == 0 && left.it_interval.tv_usec == us);
	CHECK(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL) == 0);
	CHECK(now_us() - begin + 1 >= (uint64_t)us * want, "%d ticks of %d us too early", want, us);
	int after = ticks;
	usleep(us * 2);
	CHECK(ticks == after, "a timer that was stopped fired");
}

/* ---- all of it ---- */

static const struct {
	const char *name;
	void (*round)(uint64_t *);
} kinds[] = {
	{ "tree", tree },   { "pipe", pipes },	{ "signal", signals }, { "memory", memory }, { "fault", fault },
	{ "mutex", mutex }, { "file", files }, { "poll", polls },	  { "timer", timers },
};
enum { KINDS = sizeof kinds / sizeof *kinds };
static pid_t pids[KINDS];

static int give_up(const char *why, const char *who)
{
	printf("LOAD FAILED %s: %s\n", who, why);
	for (int i = 0; i < KINDS; i++)
		if (pids[i])
			kill(-pids[i], SIGKILL);
	return 1;
}
int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "leaf"))
		return getenv("LEAF") ? 1 : 0;
	if (argc < 2 || atoi(argv[1]) <= 0) {
		fprintf(stderr, "usage: load SECONDS [SEED [KIND]]\n");
		return 2;
	}
	uint64_t seconds = atoi(argv[1]), seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
	uint64_t *done = map(PAGE, PROT_READ | PROT_WRITE, MAP_SHARED), begin = now_us(), end = begin + seconds * 1000000;
	setvbuf(stdout, NULL, _IOLBF, 0);
	int running = 0;
	for (int i = 0; i < KINDS; i++) {
		if (argc > 3 && strcmp(argv[3], kinds[i].name))
			continue;
		running++;
		if ((pids[i] = start()) != 0) {
			/* Both sides, so that neither has to be first. */
			setpgid(pids[i], pids[i]);
			continue;
		}
		setpgid(0, 0);
		kind = kinds[i].name;
		uint64_t s = (seed * KINDS + i + 1) * 0x9e3779b97f4a7c15ull | 1;
		while (now_us() < end) {
			kinds[i].round(&s);
			__atomic_store_n(&done[i], ++round_no, __ATOMIC_RELAXED);
		}
		_exit(0);
	}
	uint64_t last[KINDS] = { 0 }, moved[KINDS], minute = 1;
	for (int i = 0; i < KINDS; i++)
		moved[i] = begin;
	while (running > 0) {
		int status;
		sleep(1);
		uint64_t t = now_us();
		for (pid_t p; (p = waitpid(-1, &status, WNOHANG)) > 0;)
			for (int i = 0; i < KINDS; i++)
				if (pids[i] == p) {
					pids[i] = 0, running--;
					if (!WIFEXITED(status) || WEXITSTATUS(status))
						return give_up(WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "found an inconsistency", kinds[i].name);
				}
		for (int i = 0; i < KINDS; i++) {
			uint64_t n = __atomic_load_n(&done[i], __ATOMIC_RELAXED);
			if (n != last[i])
				last[i] = n, moved[i] = t;
			else if (pids[i] && t - moved[i] > STUCK * 1000000ull)
				return give_up("no progress", kinds[i].name);
		}
		if (t - begin >= minute * 60000000 || running == 0) {
			printf(running ? "load %llu s:" : "LOAD ok %llu s seed %llu:", (unsigned long long)(t - begin) / 1000000, (unsigned long long)seed);
			for (int i = 0; i < KINDS; i++)
				if (last[i])
					printf(" %s %llu", kinds[i].name, (unsigned long long)last[i]);
			printf("\n");
			minute = (t - begin) / 60000000 + 1;
		}
	}
	return 0;
}
