// Attention of 16-bit operands, heads of up to 128 columns.
#include "attention.cuh"

ATTENTION(128, bf16, bf16)
ATTENTION(128, f16, half_t)
