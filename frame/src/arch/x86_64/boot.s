# The way from the PVH entry (32-bit protected mode, paging off, %ebx = start_info) to 64-bit Rust in the upper half.
# This code and its tables are linked at their physical addresses; everything else at KBASE + physical address.
# The tables built here map the first GiB three times: one to one (for this code and for the start of other
# processors), as the beginning of the direct map, and at KBASE. `memory.rs` builds the final ones.

.section .note.Xen, "a", @note
.balign 4
.long 4                         # name size
.long 8                         # descriptor size
.long 18                        # XEN_ELFNOTE_PHYS32_ENTRY
.asciz "Xen"
.quad entry32

.section .boot.text, "ax", @progbits
.code32
.globl entry32
entry32:
    cli
    cld
    movl %ebx, %edi             # start_info, first argument of `rust_start`
    movl $boot_pd, %edx
    movl $0x83, %eax            # present, writable, 2 MiB
    movl $512, %ecx
2:  movl %eax, (%edx)
    movl $0, 4(%edx)
    addl $0x200000, %eax
    addl $8, %edx
    decl %ecx
    jnz 2b
    movl $(boot_pdpt_low + 3), boot_pml4
    movl $(boot_pdpt_low + 3), boot_pml4 + 273 * 8
    movl $(boot_pdpt_high + 3), boot_pml4 + 511 * 8
    movl $(boot_pd + 3), boot_pdpt_low
    movl $(boot_pd + 3), boot_pdpt_high + 510 * 8

    movl $0x20, %eax            # CR4.PAE
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx      # EFER: NXE, LME, SCE
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80010011, %eax      # PG, WP, ET, PE
    movl %eax, %cr0
    lgdtl boot_gdtr
    ljmpl $8, $entry64

.code64
entry64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl %edi, %edi
    movabsq $boot_stack_top, %rsp
    xorl %ebp, %ebp             # ends backtraces
    pushq $0
    movabsq $rust_start, %rax
    jmp *%rax

.section .boot.data, "aw", @progbits
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # 0x08: 64-bit code
    .quad 0x00cf93000000ffff    # 0x10: data
boot_gdtr:
    .word 23
    .long boot_gdt

.section .boot.bss, "aw", @nobits
.balign 4096
.globl boot_pml4
boot_pml4:      .skip 4096
boot_pdpt_low:  .skip 4096
boot_pdpt_high: .skip 4096
boot_pd:        .skip 4096

# The boot processor's first stack, which its idle task keeps. The page below it is never mapped in the final tables.
.section .bss.boot_stack, "aw", @nobits
.balign 4096
.globl boot_stack_guard
boot_stack_guard: .skip 4096
boot_stack:       .skip 32768
.globl boot_stack_top
boot_stack_top:

# Where another processor begins, in real mode at 0x8000 (start-up vector 8). Copied there; the four slots at the end
# are filled in for each processor.
.section .rodata.trampoline, "a", @progbits
.balign 16
.globl trampoline_start
.globl trampoline_end
.globl trampoline_slots
.code16
trampoline_start:
    cli
    cld
    xorw %ax, %ax
    movw %ax, %ds
    lgdtl 0x8000 + trampoline_gdtr - trampoline_start
    movl $0x20, %eax
    movl %eax, %cr4
    movl 0x8000 + trampoline_slots - trampoline_start, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80010011, %eax
    movl %eax, %cr0
    ljmpl $8, $(0x8000 + trampoline64 - trampoline_start)
.code64
trampoline64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq 0x8000 + trampoline_slots + 8 - trampoline_start, %rdx
    movq 0x8000 + trampoline_slots + 16 - trampoline_start, %rsp
    movq 0x8000 + trampoline_slots + 24 - trampoline_start, %rdi
    movabsq $enter_other, %rax
    jmp *%rax
.balign 8
trampoline_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
trampoline_gdtr:
    .word 23
    .long 0x8000 + trampoline_gdt - trampoline_start
.balign 8
trampoline_slots:               # the boot tables' root, the final root, stack, per-processor block
    .quad 0, 0, 0, 0
trampoline_end:

.balign 8
.globl boot_pml4_phys
boot_pml4_phys: .quad boot_pml4

# From the trampoline, now at an address that the final tables map too. The stack is mapped only there.
.section .text.enter_other, "ax", @progbits
enter_other:
    movq %rdx, %cr3
    xorl %ebp, %ebp
    pushq $0
    jmp ap_start
