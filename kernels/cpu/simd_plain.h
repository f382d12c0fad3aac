/* simd_plain.h - any number of lanes with nothing but the compilers' vector types; part of simd.h. */

BERTH_INLINE vf v_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

BERTH_INLINE vf v_max(vf a, vf b)
{
    return v_select(a > b, a, b);
}

BERTH_INLINE vf v_widen_bf16(vh h)
{
    return (vf)(__builtin_convertvector(h, vu) << 16);
}

/* Exponent and mantissa moved into place are the value times 2^-112, denormals too; infinity and NaN get their exponent. */
BERTH_INLINE vf v_widen_f16(vh h)
{
    vu u = __builtin_convertvector(h, vu), sign = (u & 0x8000) << 16, rest = (u & 0x7FFF) << 13;
    vu special = (vu)((u & 0x7C00) == 0x7C00) & 0x7F800000;
    return (vf)((vu)((vf)rest * 0x1p112f) | special | sign);
}
