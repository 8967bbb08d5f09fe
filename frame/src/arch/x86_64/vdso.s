# The vDSO's functions: they run in user mode, in the page that `crate::vdso` describes, with the page of clock data right
# below it. Position independent: data is found relative to the instruction.
#
# The clock is the one of `clock.rs`, computed in the same way, so that both give the same time to the nanosecond. The fence
# keeps the counter from being read before what comes earlier in the program: else a time read after a message
# from another processor could be older than the time in the message.

.section .rodata.vdso, "a", @progbits
.balign 64
.globl vdso_text_start
vdso_text_start:
.Lvdso:
.set .Lvdso_data, {TEXT} + 4096  # the data page begins this far below

# rax = nanoseconds since boot; rdx is lost.
.macro vdso_now
    lfence
    rdtsc
    shlq $32, %rdx
    orq %rdx, %rax
    subq .Lvdso - .Lvdso_data + {BASE}(%rip), %rax
    mulq .Lvdso - .Lvdso_data + {RATE}(%rip)
    shrdq $32, %rdx, %rax
.endm

# rax (nanoseconds) becomes rdx (seconds) and rcx (nanoseconds); rax is lost. Division by 10^9 = 2^9 * 5^9: after the shift
# the multiplication with 2^75 / 5^9, rounded up, is exact for 55 bits.
.macro vdso_split
    movq %rax, %rcx
    shrq $9, %rax
    movabsq $0x44b82fa09b5a53, %rdx
    mulq %rdx
    shrq $11, %rdx
    imulq $1000000000, %rdx, %rax
    subq %rax, %rcx
.endm

# int clock_gettime(clockid_t clock, struct timespec *at)
.balign 16
vdso_clock_gettime:
    cmpl ${LAST}, %edi
    ja 1f
    movl ${CLOCKS}, %eax
    btl %edi, %eax
    jnc 1f
    movl %edi, %edi
    leaq .Lvdso - .Lvdso_data + {OFFSETS}(%rip), %r8
    vdso_now
    addq (%r8, %rdi, 8), %rax
    vdso_split
    movq %rdx, (%rsi)
    movq %rcx, 8(%rsi)
    xorl %eax, %eax
    ret
1:  movl $228, %eax             # not a clock that is known here: clock_gettime(2)
    syscall
    ret
.Lclock_gettime_end:

# int gettimeofday(struct timeval *at, struct timezone *zone); either may be null. The zone is always Greenwich.
.balign 16
vdso_gettimeofday:
    testq %rdi, %rdi
    jz 1f
    vdso_now
    addq .Lvdso - .Lvdso_data + {OFFSETS}(%rip), %rax
    vdso_split
    imulq $274877907, %rcx, %rcx    # 2^38 / 1000: exact below 2^31
    shrq $38, %rcx
    movq %rdx, (%rdi)
    movq %rcx, 8(%rdi)
1:  xorl %eax, %eax
    testq %rsi, %rsi
    jz 2f
    movq %rax, (%rsi)
2:  ret
.Lgettimeofday_end:

# time_t time(time_t *at); `at` may be null.
.balign 16
vdso_time:
    vdso_now
    addq .Lvdso - .Lvdso_data + {OFFSETS}(%rip), %rax
    vdso_split
    movq %rdx, %rax
    testq %rdi, %rdi
    jz 1f
    movq %rax, (%rdi)
1:  ret
.Ltime_end:

# int getcpu(unsigned *cpu, unsigned *node, void *unused); either may be null. There is one node.
.balign 16
vdso_getcpu:
    movl ${CPU_SEL}, %eax
    lsll %eax, %edx             # the segment's limit is the processor's number
    xorl %eax, %eax
    testq %rdi, %rdi
    jz 1f
    movl %edx, (%rdi)
1:  testq %rsi, %rsi
    jz 2f
    movl %eax, (%rsi)
2:  ret
.Lgetcpu_end:
.globl vdso_text_end
vdso_text_end:

# Where they begin and end, in bytes from the start, in the order of `crate::vdso::NAMES`.
.balign 4
.globl vdso_functions
vdso_functions:
    .long vdso_clock_gettime - .Lvdso, .Lclock_gettime_end - .Lvdso
    .long vdso_gettimeofday - .Lvdso, .Lgettimeofday_end - .Lvdso
    .long vdso_time - .Lvdso, .Ltime_end - .Lvdso
    .long vdso_getcpu - .Lvdso, .Lgetcpu_end - .Lvdso
.text
