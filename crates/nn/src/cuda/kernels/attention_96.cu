// Attention of 16-bit operands, heads of up to 96 columns.
#include "attention.cuh"

ATTENTION(96, bf16, bf16)
ATTENTION(96, f16, half_t)
