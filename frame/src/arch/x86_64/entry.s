# Traps, system calls, the way to user mode and back, and the switch of kernel stacks.
#
# `enter_user` looks like a function call: it saves what the caller keeps on the kernel stack, remembers the stack pointer in
# the TSS as the ring-0 stack, and goes to user mode. Whatever ends user mode stores the user's registers
# in `Regs`, takes the remembered stack pointer and returns from that call. So no kernel stack frame is built for a
# system call, and the kernel code above it is an ordinary loop.
#
# `CLAC` and `STAC` are three-byte no-ops that `memory.rs` patches before the text becomes read-only, where SMAP exists.

.macro CLAC
771: .byte 0x0f, 0x1f, 0x00
    .pushsection .smap_clac, "a", @progbits
    .quad 771b
    .popsection
.endm
.macro STAC
771: .byte 0x0f, 0x1f, 0x00
    .pushsection .smap_stac, "a", @progbits
    .quad 771b
    .popsection
.endm
.macro FIXUP at, to
    .pushsection .ex_table, "a", @progbits
    .quad \at, \to
    .popsection
.endm
.macro PUSH_ALL
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm
.macro POP_ALL
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
.endm

.text

# One stub per vector, 16 bytes each. Vectors 8, 10-14, 17, 21, 29 and 30 come with an error code.
.balign 16
.globl trap_stubs
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if (vector == 2) || (vector == 8) || (vector == 18)
    jmp paranoid_common
    .else
    jmp trap_common
    .endif
    .set vector, vector + 1
.endr

# Stack: vector, error, rip, cs, rflags, rsp, ss.
.balign 16
trap_common:
    testb $3, 24(%rsp)
    jnz trap_from_user
    PUSH_ALL
    cld
    CLAC
    movq %rsp, %rdi
    pushq 136(%rsp)             # a frame for backtraces: the interrupted rip, and rbp as it is
    pushq %rbp
    movq %rsp, %rbp
    call trap_kernel
    addq $16, %rsp
    POP_ALL
    addq $16, %rsp
    iretq

trap_from_user:
    swapgs
    cld
    CLAC
    pushq %rax
    movq %gs:{RSP0}, %rax
    movq (%rax), %rax
    movq %rbx, {R_RBX}(%rax)
    movq %rcx, {R_RCX}(%rax)
    movq %rdx, {R_RDX}(%rax)
    movq %rsi, {R_RSI}(%rax)
    movq %rdi, {R_RDI}(%rax)
    movq %rbp, {R_RBP}(%rax)
    movq %r8,  {R_R8}(%rax)
    movq %r9,  {R_R9}(%rax)
    movq %r10, {R_R10}(%rax)
    movq %r11, {R_R11}(%rax)
    movq %r12, {R_R12}(%rax)
    movq %r13, {R_R13}(%rax)
    movq %r14, {R_R14}(%rax)
    movq %r15, {R_R15}(%rax)
    movq $-1, {R_ORIG_RAX}(%rax)
    popq {R_RAX}(%rax)
    popq %rcx                   # vector
    popq %rdx                   # error code
    popq {R_RIP}(%rax)
    popq %rbx
    popq {R_RFLAGS}(%rax)
    popq {R_RSP}(%rax)
    movq %rcx, %rax
    movq %gs:{RSP0}, %rsp
    addq $8, %rsp
    popq %rbx
    popq %rbp
    ret

# NMI, double fault, machine check: on stacks of their own, from any state of GS. The word above the hardware's frame on
# each of these stacks is the address of the processor's block.
.balign 16
paranoid_common:
    PUSH_ALL
    cld
    CLAC
    movl $0xc0000101, %ecx
    rdmsr
    shlq $32, %rdx
    orq %rdx, %rax
    movq %rax, %rbx
    movq 176(%rsp), %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    movq %rsp, %rdi
    pushq 136(%rsp)
    pushq %rbp
    movq %rsp, %rbp
    call trap_paranoid
    addq $16, %rsp
    movl $0xc0000101, %ecx
    movq %rbx, %rax
    movq %rbx, %rdx
    shrq $32, %rdx
    wrmsr
    POP_ALL
    addq $16, %rsp
    iretq

# enter_user(regs: rdi) -> vector in rax, error in rdx. Interrupts are off. Only rbx, rbp and rsp survive, as inline
# assembly cannot give up the first two: the caller has usually saved the other registers for itself already.
.balign 16
.globl enter_user
enter_user:
    pushq %rbp
    pushq %rbx
    pushq %rdi
    movq %rsp, %gs:{RSP0}
    movq {R_FS_BASE}(%rdi), %rax
    cmpq %gs:{LOADED_FS}, %rax
    jne load_fs
fs_loaded:
    movq {R_GS_BASE}(%rdi), %rax
    cmpq %gs:{LOADED_GS}, %rax
    jne load_gs
gs_loaded:
    movq {R_RIP}(%rdi), %rcx
    movq {R_RFLAGS}(%rdi), %r11
    movq {R_RAX}(%rdi), %rax
    movq {R_RBX}(%rdi), %rbx
    movq {R_RDX}(%rdi), %rdx
    movq {R_RSI}(%rdi), %rsi
    movq {R_RBP}(%rdi), %rbp
    movq {R_R8}(%rdi),  %r8
    movq {R_R9}(%rdi),  %r9
    movq {R_R10}(%rdi), %r10
    movq {R_R12}(%rdi), %r12
    movq {R_R13}(%rdi), %r13
    movq {R_R14}(%rdi), %r14
    movq {R_R15}(%rdi), %r15
    # sysret leaves rip in rcx and rflags in r11: good after a system call that changed neither. Single-stepping and a
    # set RF need iret.
    cmpq %rcx, {R_RCX}(%rdi)
    jne slow_exit
    cmpq %r11, {R_R11}(%rdi)
    jne slow_exit
    testl $0x10100, %r11d
    jnz slow_exit
    swapgs
    movq {R_RSP}(%rdi), %rsp
    movq {R_RDI}(%rdi), %rdi
    sysretq
slow_exit:
    pushq $0x2b
    pushq {R_RSP}(%rdi)
    pushq %r11
    pushq $0x33
    pushq %rcx
    movq {R_RCX}(%rdi), %rcx
    movq {R_R11}(%rdi), %r11
    movq {R_RDI}(%rdi), %rdi
    swapgs
    iretq
load_fs:
    movq %rax, %gs:{LOADED_FS}
    movq %rax, %rdx
    shrq $32, %rdx
    movl $0xc0000100, %ecx
    wrmsr
    jmp fs_loaded
load_gs:
    movq %rax, %gs:{LOADED_GS}
    movq %rax, %rdx
    shrq $32, %rdx
    movl $0xc0000102, %ecx      # becomes GS by the swapgs below
    wrmsr
    jmp gs_loaded

.balign 16
.globl syscall_entry
syscall_entry:
    swapgs
    movq %rsp, %gs:{SCRATCH}
    movq %gs:{RSP0}, %rsp
    pushq %rdi
    movq 8(%rsp), %rdi          # regs
    movq %rax, {R_ORIG_RAX}(%rdi)
    movq %rax, {R_RAX}(%rdi)
    movq %rbx, {R_RBX}(%rdi)
    movq %rcx, {R_RCX}(%rdi)
    movq %rcx, {R_RIP}(%rdi)
    movq %rdx, {R_RDX}(%rdi)
    movq %rsi, {R_RSI}(%rdi)
    popq {R_RDI}(%rdi)
    movq %rbp, {R_RBP}(%rdi)
    movq %r8,  {R_R8}(%rdi)
    movq %r9,  {R_R9}(%rdi)
    movq %r10, {R_R10}(%rdi)
    movq %r11, {R_R11}(%rdi)
    movq %r11, {R_RFLAGS}(%rdi)
    movq %r12, {R_R12}(%rdi)
    movq %r13, {R_R13}(%rdi)
    movq %r14, {R_R14}(%rdi)
    movq %r15, {R_R15}(%rdi)
    movq %gs:{SCRATCH}, %rax
    movq %rax, {R_RSP}(%rdi)
    movl $256, %eax             # what no vector is
    popq %rcx
    popq %rbx
    popq %rbp
    ret

# `syscall` from a 32-bit code segment cannot happen, as there is none; this is where AMD processors would go.
.balign 16
.globl syscall_compat_entry
syscall_compat_entry:
    ud2

# extern "C" fn switch_stacks(prev: *mut Context, next: *const Context). Interrupts are off.
.balign 16
.globl switch_stacks
switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret

# fn user_copy(to: rdi, from: rsi, len: rdx) -> bytes not copied. Eight bytes at a time; a fault there goes on bytewise, so
# that what is copied ends exactly before the first bad byte.
.balign 16
.globl user_copy
user_copy:
    STAC
    movq %rdx, %rcx
    shrq $3, %rcx
    andl $7, %edx
2:  rep movsq
    movl %edx, %ecx
3:  rep movsb
4:  CLAC
    movq %rcx, %rax
    ret
5:  leaq (%rdx, %rcx, 8), %rcx
    jmp 3b
    FIXUP 2b, 5b
    FIXUP 3b, 4b

# fn user_clear(to: rdi, len: rsi) -> bytes not cleared.
.balign 16
.globl user_clear
user_clear:
    STAC
    xorl %eax, %eax
    movq %rsi, %rcx
    movq %rsi, %rdx
    shrq $3, %rcx
    andl $7, %edx
2:  rep stosq
    movl %edx, %ecx
3:  rep stosb
4:  CLAC
    movq %rcx, %rax
    ret
5:  leaq (%rdx, %rcx, 8), %rcx
    jmp 3b
    FIXUP 2b, 5b
    FIXUP 3b, 4b

# Single accesses return the value in rax and 0 (done) or 1 (bad address) in rdx.
.balign 16
.globl user_load8
user_load8:
    STAC
2:  movzbl (%rdi), %eax
    jmp user_good
    FIXUP 2b, user_bad
.globl user_load32
user_load32:
    STAC
2:  movl (%rdi), %eax
    jmp user_good
    FIXUP 2b, user_bad
.globl user_load64
user_load64:
    STAC
2:  movq (%rdi), %rax
    jmp user_good
    FIXUP 2b, user_bad
.globl user_store8
user_store8:
    STAC
2:  movb %sil, (%rdi)
    jmp user_good
    FIXUP 2b, user_bad
.globl user_store32
user_store32:
    STAC
2:  movl %esi, (%rdi)
    jmp user_good
    FIXUP 2b, user_bad
.globl user_store64
user_store64:
    STAC
2:  movq %rsi, (%rdi)
    jmp user_good
    FIXUP 2b, user_bad
# (address, old, new) -> the value found; it was `old` if the exchange happened.
.globl user_cmpxchg32
user_cmpxchg32:
    STAC
    movl %esi, %eax
2:  lock cmpxchgl %edx, (%rdi)
    jmp user_good
    FIXUP 2b, user_bad
.globl user_cmpxchg64
user_cmpxchg64:
    STAC
    movq %rsi, %rax
2:  lock cmpxchgq %rdx, (%rdi)
user_good:
    CLAC
    xorl %edx, %edx
    ret
user_bad:
    CLAC
    movl $1, %edx
    xorl %eax, %eax
    ret
    FIXUP 2b, user_bad
