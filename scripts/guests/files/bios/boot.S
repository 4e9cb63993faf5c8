/* The boot sector: loads the rest of the guest behind itself and calls C.
 *
 * SeaBIOS puts the first sector of the disk at 0x7c00 and jumps to it in real mode.
 * The C code is compiled with -m16: 32-bit registers, but 16-bit mode and one 64 KiB
 * segment, so all segment registers stay 0 and every address is a plain number.
 * memory.h says what lies where.
 */
	.code16
	.section .boot, "ax"
	.globl _start
_start:
	cli
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$STACK_TOP, %esp
	sti
	cld
	ljmp	$0, $1f			/* some BIOSes start at 07c0:0000 */
1:
	movb	$0x42, %ah		/* extended read; %dl still holds the boot drive */
	movw	$load_rest, %si
	int	$0x13
	jc	2f
	calll	guest_main
2:
	movw	$0x0e21, %ax		/* '!' on the screen: could not load */
	int	$0x10
3:
	hlt
	jmp	3b

	.balign	4
load_rest:				/* disk address packet of INT 13h, AH=42h */
	.byte	16, 0
	.word	SECTORS			/* from guest.lds */
	.word	0x7e00, 0
	.quad	1

	.org	510
	.word	0xaa55

/* int bios_call(int number, struct bios_regs *regs)
 *
 * Runs INT number with the registers from *regs, stores what they hold afterwards,
 * returns the carry flag. The number is patched into the instruction, because INT
 * takes nothing but a constant; the jump makes the CPU fetch it anew.
 */
	.section .text
	.globl bios_call
bios_call:
	pushl	%ebp
	pushl	%ebx
	pushl	%esi
	pushl	%edi
	movb	20(%esp), %al
	movb	%al, 1f + 1
	movl	24(%esp), %ebp
	pushl	%ebp
	movl	0(%ebp), %eax
	movl	4(%ebp), %ebx
	movl	8(%ebp), %ecx
	movl	12(%ebp), %edx
	movl	16(%ebp), %esi
	movl	20(%ebp), %edi
	jmp	1f
1:
	int	$0
	popl	%ebp			/* POP and MOV leave the carry flag alone */
	movl	%eax, 0(%ebp)
	movl	%ebx, 4(%ebp)
	movl	%ecx, 8(%ebp)
	movl	%edx, 12(%ebp)
	movl	%esi, 16(%ebp)
	movl	%edi, 20(%ebp)
	movl	$0, %eax
	adcl	$0, %eax
	movw	$0, %dx			/* a BIOS may leave these as it likes */
	movw	%dx, %ds
	movw	%dx, %es
	cld
	sti
	popl	%edi
	popl	%esi
	popl	%ebx
	popl	%ebp
	retl

	.section .note.GNU-stack, "", @progbits
