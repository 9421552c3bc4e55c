// Attention of 16-bit operands, heads of up to 16 columns.
#include "attention.cuh"

ATTENTION(16, bf16, bf16)
ATTENTION(16, f16, half_t)
