/*
 * sysfuzz: system calls with random arguments, from many processes, and then: is everything still there?
 *
 *	sysfuzz [--seed S] [--seconds T] [--procs N] [--rounds R] [--only NUMBER[,NUMBER…]] [--worker W]
 *
 * Workers are forked again and again; worker W of seed S always makes the same calls (its threads and its neighbours interleave as
 * they like). `--worker W` runs that one alone. Three of four are an ordinary user; the fourth is root, and is kept from what ends or
 * bends the machine for good (`not_as_root`), and to paths under its own folder. After each round all that the workers left is
 * killed and removed, and memory, files and processes are counted: they may not grow from round to round. Status 0: they did not.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <dirent.h>

#define HOME "/tmp/sysfuzz"
#define USER 1000
#define LAST 470		/* numbers up to here, some of them nobody's */
#define CALLS 3000		/* of each thread of a worker */
#define PATIENCE 8		/* seconds for a worker */
#define PAGE 4096
#define ARENA (64 * PAGE)
#define LEAK_KIB 4096		/* memory that may stay used from the first round on */

static uint64_t master = 1;
static int seconds = 60, procs = 8, rounds = 4, only[64], nonly;
static int is_root;
static char *arena, *readonly, *hole;
static pid_t worker_pid;

static __thread uint64_t state;
static uint64_t rnd(void)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state * 0x2545f4914f6cdd1dull >> 11;
}
static uint64_t below(uint64_t n)
{
	return rnd() % n;
}

/* What root would do to all: end the machine or its driver, change clocks, devices, mounts, names, the log, real-time priorities. */
static const int not_as_root[] = {
	SYS_reboot, SYS_kexec_load, SYS_kexec_file_load, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_mount, SYS_umount2,
	SYS_pivot_root, SYS_chroot, SYS_move_mount, SYS_open_tree, SYS_fsmount, SYS_fsopen, SYS_fspick, SYS_fsconfig, SYS_mount_setattr,
	SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex, SYS_swapon, SYS_swapoff, SYS_iopl, SYS_ioperm, SYS_syslog,
	SYS_vhangup, SYS_sethostname, SYS_setdomainname, SYS_acct, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal, SYS_setpriority, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr,
	SYS_prlimit64, SYS_ioctl, SYS_ptrace, SYS_process_madvise, SYS_quotactl, SYS_ioprio_set, SYS_chdir, SYS_fchdir, SYS_write,
	SYS_pwrite64, SYS_writev, SYS_sendfile, SYS_splice, SYS_unlinkat, SYS_setns,
};
/* What nobody does: the worker would only end, or sleep until it is killed. */
static const int not_at_all[] = { SYS_exit, SYS_exit_group, SYS_pause, SYS_rt_sigreturn, SYS_vfork };

static int in(int n, const int *list, size_t size)
{
	for (size_t i = 0; i < size / sizeof *list; i++)
		if (list[i] == n)
			return 1;
	return 0;
}

static long number(void)
{
	for (;;) {
		long n = nonly ? only[below(nonly)] : (long)below(LAST);
		if (!nonly && below(200) == 0)
			n = (long)(rnd() << below(40));			/* nobody's, or of another ABI */
		if (n >= 0 && n < 0x40000000 && in(n, not_at_all, sizeof not_at_all))
			continue;
		if (is_root && (in(n, not_as_root, sizeof not_as_root) || in(n & 0x3fffffff, not_as_root, sizeof not_as_root)))
			continue;
		/* Processes that make processes are rarer. */
		if ((n == SYS_fork || n == SYS_clone || n == SYS_clone3) && below(8))
			continue;
		return n;
	}
}

static const char *paths[] = {
	HOME "/a", HOME "/b", HOME "/d", HOME "/d/e", HOME "/d/../a", HOME "/link", HOME "/d/", HOME "/nothing", HOME "/s1", HOME "/s2",
	HOME, "a", "d/e", "..", ".", "", "/", "/proc/self", "/proc/self/fd/3", "/proc/self/mem", "/proc/self/maps", "/proc/self/stat",
	"/proc/self/status", "/proc/self/fdinfo/5", "/proc/thread-self/comm", "/proc/1/stat", "/proc/meminfo", "/proc/interrupts",
	"/proc/sys/kernel/hostname", "/sys/kernel", "/sys/devices/system/cpu/online", "/sys/kernel/tracing/available_events", "/dev/null",
	"/dev/zero", "/dev/full", "/dev/urandom", "/dev/ptmx", "/dev/tty", "/dev/pts", "/dev/pts/0",
};
#define OWN 10			/* those at the beginning are the workers' own */

static char *at(size_t size)
{
	return arena + below(ARENA - size) / 8 * 8;
}
static char *some_path(void)
{
	char *p = at(PAGE + 8);
	if (below(40) == 0) {
		size_t n = below(2) ? 255 + below(3) : 4090 + below(10);
		memset(p, 'x', n);
		p[n] = 0;
	} else {
		strcpy(p, paths[below(is_root ? OWN : sizeof paths / sizeof *paths)]);
		if (below(30) == 0)
			p[below(20)] ^= 1 << below(8);
		if (is_root && strncmp(p, HOME, strlen(HOME)))
			strcpy(p, HOME "/a");
	}
	return p;
}
static uint64_t some_fd(void)
{
	return below(12) ? below(64) : below(3) ? below(1024) : (uint64_t)-100;
}

/* Something that some call would like, with an error now and then. */
static char *structure(void)
{
	char *p = at(512);
	switch (below(13)) {
	case 0: {
		struct iovec *v = (void *)p;
		for (int i = 0; i < 4; i++)
			v[i] = (struct iovec){ at(PAGE), below(PAGE) };
		break;
	}
	case 1: {
		struct msghdr *m = (void *)p;
		struct iovec *v = (void *)(p + 64);
		struct cmsghdr *c = (void *)(p + 96);
		*v = (struct iovec){ at(PAGE), below(PAGE) };
		*c = (struct cmsghdr){ .cmsg_len = CMSG_LEN(4 * below(5)), .cmsg_level = SOL_SOCKET, .cmsg_type = 1 + below(2) };
		for (int i = 0; i < 4; i++)
			((int *)CMSG_DATA(c))[i] = some_fd();
		*m = (struct msghdr){ .msg_iov = v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = CMSG_SPACE(16) };
		break;
	}
	case 2: {
		struct timespec *t = (void *)p;
		t[0] = (struct timespec){ 0, below(2000000) };
		t[1] = (struct timespec){ below(2), below(1000000000) };
		break;
	}
	case 3: {
		struct sockaddr_un *u = (void *)p;
		u->sun_family = AF_UNIX;
		sprintf(u->sun_path, HOME "/s%d", (int)below(4));
		if (below(3) == 0)
			u->sun_path[0] = 0;	/* abstract */
		break;
	}
	case 4:
		*(uint64_t *)p = rnd() & ~(1ull << (SIGALRM - 1));
		break;
	case 5: {
		struct pollfd *f = (void *)p;
		for (int i = 0; i < 8; i++)
			f[i] = (struct pollfd){ some_fd(), rnd(), 0 };
		break;
	}
	case 6: {
		struct epoll_event *e = (void *)p;
		e->events = rnd(), e->data.u64 = rnd();
		break;
	}
	case 7: {
		uint64_t *w = (void *)p;		/* clone_args, open_how, rlimit, robust lists … */
		for (int i = 0; i < 11; i++)
			w[i] = below(3) ? 0 : 1ull << below(40);
		break;
	}
	case 8: {
		struct sigaction *s = (void *)p;
		memset(s, 0, sizeof *s);
		*(uint64_t *)p = below(2);		/* default or ignored */
		break;
	}
	case 9: {
		char **v = (void *)p;
		for (int i = 0; i < 4; i++)
			v[i] = at(64);
		v[4] = NULL;
		break;
	}
	case 10:
		for (int i = 0; i < 16; i++)
			((int *)p)[i] = below(100);
		break;
	case 11:
		memset(p, 0, 512);
		break;
	default:
		for (int i = 0; i < 32; i++)
			((uint64_t *)p)[i] = rnd() << below(50);
	}
	if (below(10) == 0)
		p[below(128)] ^= 1 << below(8);
	return p;
}

static uint64_t argument(int i)
{
	static const uint64_t edges[] = { 0, 1, -1, -4095, PAGE, PAGE - 1, PAGE + 1, 1ull << 31, (1ull << 31) - 1, 1ull << 32, 1ull << 47,
					  (1ull << 47) - PAGE, 1ull << 63, (1ull << 63) - 1, 0xffff800000000000, 0xffffffff80000000 };
	if (i == 0 && below(2))
		return some_fd();
	switch (below(14)) {
	case 0: case 1: return below(16);
	case 2: return some_fd();
	case 3: case 4: case 5: return (uint64_t)structure();
	case 6: case 7: return (uint64_t)some_path();
	case 8: return edges[below(sizeof edges / sizeof *edges)];
	case 9: return (uint64_t)(arena + ARENA - below(16));	/* across the end */
	case 10: return (uint64_t)(below(2) ? readonly : hole) + below(2) * below(PAGE);
	case 11: return 1ull << below(64);
	case 12: return below(4) ? below(64) * PAGE : (uint64_t)arena + below(64) * PAGE;
	default: return below(3) ? (uint64_t)worker_pid : rnd();
	}
}

static void alarmed(int s)
{
	(void)s;
}

static void *calls(void *seed)
{
	state = (uint64_t)seed | 1;
	rnd();
	for (int i = 0; i < CALLS; i++) {
		uint64_t a[6];
		long n = number();
		for (int k = 0; k < 6; k++)
			a[k] = argument(k);
		/* Own memory stays, as a rule. */
		if ((n == SYS_munmap || n == SYS_mprotect || n == SYS_mremap || n == SYS_madvise || n == SYS_shmdt) && below(50))
			a[0] = (uint64_t)arena + (48 + below(16)) * PAGE, a[1] = below(8) * PAGE;
		if (n == SYS_mmap && (a[3] & MAP_FIXED))
			a[0] = (uint64_t)arena + (48 + below(16)) * PAGE, a[1] = (1 + below(4)) * PAGE, a[3] &= 0xffff;
		syscall(n, a[0], a[1], a[2], a[3], a[4], a[5]);
		/* What was forked makes a few calls more. */
		if (syscall(SYS_getpid) != worker_pid && below(30) == 0)
			syscall(SYS_exit_group, 0);
	}
	return NULL;
}

static void open_all(void)
{
	int p[2];
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		if (!is_root || i < OWN)
			open(paths[i], (i < 6 ? O_CREAT | O_RDWR : O_RDONLY) | O_NONBLOCK, 0666);
	if (pipe2(p, O_NONBLOCK) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p) || socketpair(AF_UNIX, SOCK_DGRAM, 0, p) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, p))
		return;
	int e = epoll_create1(0), v = eventfd(0, EFD_NONBLOCK);
	sigset_t all;
	sigfillset(&all);
	epoll_ctl(e, EPOLL_CTL_ADD, v, &(struct epoll_event){ .events = EPOLLIN | EPOLLET });
	timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	signalfd(-1, &all, SFD_NONBLOCK);
	memfd_create("sysfuzz", MFD_ALLOW_SEALING);
	socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, 15);
	socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
}

static void limit(int what, rlim_t n)
{
	setrlimit(what, &(struct rlimit){ n, n });
}

static void worker(uint64_t w)
{
	state = (master * 0x9e3779b97f4a7c15ull ^ w * 0xbf58476d1ce4e5b9ull) | 1;
	rnd();
	is_root = w % 4 == 3;
	worker_pid = getpid();
	setsid();
	int null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	limit(RLIMIT_NPROC, 60);
	limit(RLIMIT_CPU, 3);		/* a handler that returns to what faulted goes on for ever */
	nice(10);
	limit(RLIMIT_FSIZE, 1 << 20);
	limit(RLIMIT_AS, 256 << 20);
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NOFILE, 256);
	chdir(HOME);
	mkdir(HOME "/d", 0777);
	symlink("a", HOME "/link");
	if (!is_root && (setresgid(USER, USER, USER) || setresuid(USER, USER, USER)))
		_exit(3);
	prctl(PR_SET_DUMPABLE, 1);
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = alarmed }, NULL);
	struct itimerval often = { { 0, 20000 }, { 0, 20000 } };
	setitimer(ITIMER_REAL, &often, NULL);
	arena = mmap(NULL, ARENA + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(arena + ARENA, PAGE);
	readonly = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	hole = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	open_all();
	pthread_t t;
	for (int i = below(3); i > 0; i--)
		pthread_create(&t, NULL, calls, (void *)(rnd() << 1));
	calls((void *)(rnd() << 1));
	_exit(0);
}

/* Kills whatever is a child of this process, now or when its parent ends. */
static void kill_children(void)
{
	for (;;) {
		DIR *d = opendir("/proc");
		struct dirent *e;
		while (d && (e = readdir(d))) {
			char path[300], text[300];
			snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
			int fd = atoi(e->d_name) > 0 ? open(path, O_RDONLY) : -1;
			ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
			close(fd);
			if (n <= 0)
				continue;
			text[n] = 0;
			char *q = strrchr(text, ')');
			if (q && atoi(q + 4) == getpid())
				kill(atoi(e->d_name), SIGKILL);
		}
		closedir(d);
		usleep(20000);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (errno == ECHILD)
			return;
	}
}

static long figure(const char *file, const char *key)
{
	char text[4096], *p;
	int fd = open(file, O_RDONLY);
	ssize_t n = read(fd, text, sizeof text - 1);
	close(fd);
	if (n <= 0)
		return -1;
	text[n] = 0;
	p = strstr(text, key);
	return p ? atol(p + strlen(key)) : -1;
}

static long processes(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	long n = 0;
	while (d && (e = readdir(d)))
		if (atoi(e->d_name) > 0) {
			char path[300], text[16];
			snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
			int fd = open(path, O_RDONLY);
			n += fd >= 0 && read(fd, text, 1) == 1;		/* kernel threads come and go */
			close(fd);
		}
	closedir(d);
	return n;
}

struct figures { long memory, files, processes; };

static struct figures look(void)
{
	kill_children();
	if (system("rm -rf " HOME "; mkdir " HOME "; chmod 1777 " HOME "; sync; echo 3 >/proc/sys/vm/drop_caches; sleep 2"))
		printf("cannot clean up\n");
	return (struct figures){ figure("/proc/meminfo", "MemAvailable:"), figure("/proc/sys/fs/file-nr", ""), processes() };
}

static uint64_t round_of_workers(uint64_t w, int length)
{
	time_t end = time(NULL) + length;
	struct { pid_t pid; time_t since; } slot[64] = { 0 };
	while (time(NULL) < end) {
		for (int i = 0; i < procs; i++) {
			if (slot[i].pid == 0) {
				fflush(stdout);
				pid_t p = fork();
				if (p == 0)
					worker(w);
				slot[i].pid = p > 0 ? p : 0, slot[i].since = time(NULL);
				w += p > 0;
			} else if (time(NULL) > slot[i].since + PATIENCE)
				kill(slot[i].pid, SIGKILL);
		}
		pid_t p;
		while ((p = waitpid(-1, NULL, WNOHANG)) > 0)
			for (int i = 0; i < procs; i++)
				if (slot[i].pid == p)
					slot[i].pid = 0;
		usleep(10000);
	}
	return w;
}

int main(int argc, char **argv)
{
	long alone = -1;
	for (int i = 1; i + 1 < argc; i += 2) {
		const char *v = argv[i + 1];
		if (!strcmp(argv[i], "--seed"))
			master = strtoull(v, NULL, 0);
		else if (!strcmp(argv[i], "--seconds"))
			seconds = atoi(v);
		else if (!strcmp(argv[i], "--procs"))
			procs = atoi(v) > 64 ? 64 : atoi(v);
		else if (!strcmp(argv[i], "--rounds"))
			rounds = atoi(v);
		else if (!strcmp(argv[i], "--worker"))
			alone = atol(v);
		else if (!strcmp(argv[i], "--only"))
			for (char *p = argv[i + 1]; p && nonly < 64; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
				only[nonly++] = atoi(p);
		else
			return fprintf(stderr, "sysfuzz: %s?\n", argv[i]), 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN);
	struct figures first = look(), f = first;
	if (alone >= 0) {
		if (fork() == 0)
			worker(alone);
		kill_children();
		return 0;
	}
	uint64_t w = 0;
	int bad = 0;
	for (int r = 0; r < rounds; r++) {
		w = round_of_workers(w, seconds / rounds);
		f = look();
		printf("round %d: %llu workers so far; MemAvailable %ld KiB, %ld files, %ld processes\n", r, (unsigned long long)w, f.memory,
		       f.files, f.processes);
		if (r == 0)
			first = f;	/* caches are as full as they get */
	}
	if (f.memory < first.memory - LEAK_KIB)
		bad = 1, printf("memory is missing: %ld KiB\n", first.memory - f.memory);
	/* The files of this program and its shell are the same each time. */
	if (f.files > first.files + 8 || f.processes > first.processes)
		bad = 1, printf("files or processes are left\n");
	printf("SYSFUZZ %s: seed %llu\n", bad ? "FAILED" : "ok", (unsigned long long)master);
	return bad;
}
