// Attention of 16-bit operands, heads of up to 64 columns.
#include "attention.cuh"

ATTENTION(64, bf16, bf16)
ATTENTION(64, f16, half_t)
