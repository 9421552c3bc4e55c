//! Matrix products by cuBLASLt: an algorithm a shape, asked for once and kept ([`crate::products`]), and a workspace a device.
//!
//! Determinism. NVIDIA promises the same bits at every run on GPUs of one architecture and number of SMs, with one version of
//! the library, where a single stream is used or every stream has its own workspace (cuBLAS, "Results reproducibility"); a
//! device here has one stream and one workspace. Which algorithm is taken follows from the shape, the types and how operands
//! are aligned, or from a record of timings that was asked for. Long sums may be cut and their parts added up in a step of their own, in float32:
//! the in-place scheme, whose parts meet in the result, and parts rounded to the result's type are excluded.

use super::driver::{address, elements};
use super::matrix::{Matrix, NO_ALGORITHM, Product};
use crate::device::LIBRARY_WORKSPACE as WORKSPACE;
use crate::precision::{Compute, current};
use crate::products::{self, Algorithm};
use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{CudaDevice, CudaStorage, DType, Error, Result, Shape, bail};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, PoisonError};

static ONE: (f32, f64) = (1.0, 1.0);
static ZERO: (f32, f64) = (0.0, 0.0);

/// What an algorithm is chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    product: Product,
    element: DType,
    out: DType,
    compute: sys::cublasComputeType_t,
    /// Bytes that the addresses of A, B, D, of the bias or the sums, and of what is added to are multiples of, at most 256; 0 where
    /// there is none.
    aligned: [u32; 5],
    /// Whether the sums of B's columns are written where a bias would lie.
    sums: bool,
}

/// Addresses of what a product does besides.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// A bias of D's type that is added, or, with `sums`, where the sums of B's columns go.
    pub bias: Option<u64>,
    pub sums: bool,
    /// What the product is added to, of D's type and layout.
    pub onto: Option<u64>,
}

fn aligned(at: u64) -> u32 {
    1 << at.trailing_zeros().min(8)
}

/// An object of cuBLASLt's with attributes: its pointer, their names, and what sets one and destroys it.
macro_rules! object {
    ($name:ident, $pointer:ident, $attribute:ident, $set:ident, $destroy:ident) => {
        struct $name(sys::$pointer);

        impl $name {
            fn set<T>(&self, attribute: sys::$attribute, value: T) -> Result<()> {
                let at = std::ptr::from_ref(&value).cast();
                // SAFETY: the object lives, and `value` is read during the call; a wrong size is refused.
                unsafe { result::$set(self.0, attribute, at, size_of::<T>()) }.map_err(Error::wrap)
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made once and destroyed once; there is nobody to tell of a failure.
                let _ = unsafe { result::$destroy(self.0) };
            }
        }
    };
}
object! { Layout, cublasLtMatrixLayout_t, cublasLtMatrixLayoutAttribute_t,
set_matrix_layout_attribute, destroy_matrix_layout }
object! { Operation, cublasLtMatmulDesc_t, cublasLtMatmulDescAttributes_t,
set_matmul_desc_attribute, destroy_matmul_desc }
object! { Preference, cublasLtMatmulPreference_t, cublasLtMatmulPreferenceAttributes_t,
set_matmul_pref_attribute, destroy_matmul_pref }

impl Layout {
    fn new(m: &Matrix, batch: usize, element: DType) -> Result<Self> {
        use sys::cublasLtMatrixLayoutAttribute_t::*;
        let (rows, columns) = (m.rows as u64, m.columns as u64);
        let l = result::create_matrix_layout(data_type(element)?, rows, columns, m.leading as i64);
        let l = Self(l.map_err(Error::wrap)?);
        if batch > 1 {
            l.set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batch as i32)?;
            l.set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, m.step as i64)?;
        }
        Ok(l)
    }
}

impl Operation {
    fn new(key: &Key) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t::*;
        let scale = if key.element == DType::F64 {
            DType::F64
        } else {
            DType::F32
        };
        let o = Self(result::create_matmul_desc(key.compute, data_type(scale)?).map_err(Error::wrap)?);
        // cublasOperation_t: 0 as it lies, 1 transposed.
        o.set(CUBLASLT_MATMUL_DESC_TRANSA, i32::from(key.product.a.transposed))?;
        o.set(CUBLASLT_MATMUL_DESC_TRANSB, i32::from(key.product.b.transposed))?;
        if key.aligned[3] > 0 {
            let epilogue = if key.sums {
                sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BGRADB
            } else {
                sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS
            };
            o.set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue as u32)?;
        }
        Ok(o)
    }

    /// The bias is of D's type, as long as a column, and added to every column before rounding; sums of B's columns are of D's type
    /// and as long as a row.
    fn set_bias(&self, at: u64) -> Result<()> {
        use sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
        self.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, at)
    }
}

impl Preference {
    fn new(key: &Key) -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t::*;
        let p = Self(result::create_matmul_pref().map_err(Error::wrap)?);
        p.set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE as u64)?;
        let scheme = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        p.set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, scheme as u32)?;
        let [a, b, d, _, onto] = key.aligned;
        p.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a)?;
        p.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b)?;
        // Where nothing is added to, D is passed as C too, which is not read.
        p.set(
            CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            if onto > 0 { onto } else { d },
        )?;
        p.set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d)?;
        Ok(p)
    }
}

/// A product of one shape: what cuBLASLt is told of it.
struct Plan {
    operation: Operation,
    a: Layout,
    b: Layout,
    d: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// What a product is run on: addresses on the device, and the factors of the product and of C.
struct Operands {
    handle: sys::cublasLtHandle_t,
    a: u64,
    b: u64,
    c: u64,
    d: u64,
    factors: [*const c_void; 2],
    scratch: u64,
    stream: Arc<CudaStream>,
}

impl Plan {
    /// # Safety
    /// `on` holds matrices of the key's extents, types and alignment, C among them, which is not D where something is added to; what lies
    /// at `bias` lives and is as long as the key asks for.
    unsafe fn new(device: &CudaDevice, key: &Key, bias: Option<u64>, on: &Operands) -> Result<Self> {
        let Product { a, b, d, batch } = &key.product;
        let operation = Operation::new(key)?;
        if let Some(bias) = bias {
            // Its address tells the heuristic how it is aligned.
            operation.set_bias(bias)?;
        }
        let mut plan = Self {
            operation,
            a: Layout::new(a, *batch, key.element)?,
            b: Layout::new(b, *batch, key.element)?,
            d: Layout::new(d, *batch, key.out)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        let candidates = plan.candidates(device, key, on.handle)?;
        let time = |a: &Algorithm| {
            // SAFETY: the caller's promise; D and the sums are written again by whichever is taken.
            unsafe { plan.time(&sys::cublasLtMatmulAlgo_t { data: *a }, on) }
        };
        // Another version of the library may compute otherwise by the same algorithm.
        // SAFETY: it asks for nothing.
        let product = format!("{key:?}, cuBLASLt {}", unsafe { sys::cublasLtGetVersion() });
        match products::algorithm(device.location(), &product, &candidates, time)? {
            Some(data) => plan.algorithm = sys::cublasLtMatmulAlgo_t { data },
            None => bail!("{} for {key:?}", NO_ALGORITHM),
        }
        Ok(plan)
    }

    /// The library's algorithms, its first choice first; that one alone where no other can be taken.
    fn candidates(&self, device: &CudaDevice, key: &Key, handle: sys::cublasLtHandle_t) -> Result<Vec<Algorithm>> {
        let preference = Preference::new(key)?;
        let most = if products::is_first(device.location()) {
            1
        } else {
            products::CANDIDATES
        };
        let mut found: Vec<MaybeUninit<sys::cublasLtMatmulHeuristicResult_t>> = vec![MaybeUninit::uninit(); most];
        let mut count = 0;
        // SAFETY: all of them live, and there is room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                handle,
                self.operation.0,
                self.a.0,
                self.b.0,
                self.d.0,
                self.d.0,
                preference.0,
                most as i32,
                found.as_mut_ptr().cast(),
                &raw mut count,
            )
        };
        if let Err(e) = status.result() {
            bail!("{} for {key:?}: {e}", NO_ALGORITHM);
        }
        // SAFETY: so many were written.
        let found = found
            .iter()
            .take(count as usize)
            .map(|f| unsafe { f.assume_init_ref() });
        Ok(found
            .filter(|f| f.state.result().is_ok())
            .map(|f| f.algo.data)
            .collect())
    }

    /// Microseconds of a run by this algorithm, as a part of several that follow each other: the start of the first is hidden by none.
    ///
    /// # Safety
    /// As [`Plan::run`].
    unsafe fn time(&self, algorithm: &sys::cublasLtMatmulAlgo_t, on: &Operands) -> Result<f64> {
        let event = || {
            let timed = CUevent_flags::CU_EVENT_DEFAULT;
            on.stream.record_event(Some(timed)).map_err(Error::wrap)
        };
        let start = event()?;
        for _ in 0..products::RUNS {
            // SAFETY: the caller's promise.
            unsafe { self.run(algorithm, on)? };
        }
        let ms = start.elapsed_ms(&event()?).map_err(Error::wrap)?;
        Ok(f64::from(ms) * 1e3 / products::RUNS as f64)
    }

    /// # Safety
    /// `on` holds matrices of the plan's layouts, types and alignment, and the bias that the operation has lives.
    unsafe fn run(&self, algorithm: &sys::cublasLtMatmulAlgo_t, on: &Operands) -> Result<()> {
        // SAFETY: the caller's promise; work on the device's one stream, the workspace's too, is done in order.
        unsafe {
            result::matmul(
                on.handle,
                self.operation.0,
                on.factors[0],
                on.factors[1],
                on.a as *const c_void,
                self.a.0,
                on.b as *const c_void,
                self.b.0,
                on.c as *const c_void,
                self.d.0,
                on.d as *mut c_void,
                self.d.0,
                algorithm,
                on.scratch as *mut c_void,
                WORKSPACE,
                on.stream.cu_stream().cast(),
            )
        }
        .map_err(Error::wrap)
    }
}

/// cuBLASLt on one device.
struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    plans: HashMap<Key, Plan>,
}

// SAFETY: its pointers are to memory of cuBLASLt's that belongs to no thread, and a mutex gives it to one thread at a time.
unsafe impl Send for Library {}

impl Library {
    fn new(device: &CudaDevice) -> Result<Self> {
        // SAFETY: only cuBLASLt uses it, which expects nothing there.
        let workspace = unsafe { device.alloc::<u8>(WORKSPACE)? };
        // The allocation has made the device this thread's; the handle is for that one.
        let handle = result::create_handle().map_err(Error::wrap)?;
        let plans = HashMap::new();
        Ok(Self {
            handle,
            workspace,
            plans,
        })
    }

    /// The library on `device`; kept to the end of the process.
    fn on(device: &CudaDevice) -> Result<Arc<Mutex<Self>>> {
        static ALL: Mutex<Vec<(DeviceId, Arc<Mutex<Library>>)>> = Mutex::new(Vec::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = all.iter().find(|(id, _)| *id == device.id()) {
            return Ok(found.clone());
        }
        let new = Arc::new(Mutex::new(Self::new(device)?));
        all.push((device.id(), new.clone()));
        Ok(new)
    }
}

fn data_type(t: DType) -> Result<sys::cudaDataType> {
    Ok(match t {
        DType::F32 => sys::cudaDataType::CUDA_R_32F,
        DType::F64 => sys::cudaDataType::CUDA_R_64F,
        DType::BF16 => sys::cudaDataType::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
        t => bail!("there are no products of {t:?}"),
    })
}

/// Elements of a matrix: their storage, and where in it they begin.
type Elements<'a> = (&'a CudaStorage, usize);

/// Runs `product` of A and B, with what lies at `places`; D is of type `out`.
pub(crate) fn multiply(
    product: &Product,
    (a, a_from): Elements<'_>,
    (b, b_from): Elements<'_>,
    places: Places,
    out: DType,
) -> Result<CudaStorage> {
    let (device, element, batch) = (a.device(), a.dtype(), product.batch);
    let at = |s: &CudaStorage, from: usize, extent: usize| -> Result<u64> {
        if s.dtype() != element || from + extent > elements(s)? {
            bail!("{product:?} leaves its operands");
        }
        Ok(address(s)? + (from * element.size_in_bytes()) as u64)
    };
    let pa = at(a, a_from, product.a.extent(batch))?;
    let pb = at(b, b_from, product.b.extent(batch))?;
    // SAFETY: the product writes every element.
    let d = unsafe { device.alloc_uninit(&Shape::from(product.d.extent(batch)), out)? };
    let pd = address(&d)?;
    let key = Key {
        product: *product,
        element,
        out,
        compute: match (element, current()) {
            (DType::F64, _) => sys::cublasComputeType_t::CUBLAS_COMPUTE_64F,
            (DType::F32, Compute::Tf32) => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
            _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        },
        aligned: [
            aligned(pa),
            aligned(pb),
            aligned(pd),
            places.bias.map_or(0, aligned),
            places.onto.map_or(0, aligned),
        ],
        sums: places.sums,
    };
    let library = Library::on(device)?;
    let mut library = library.lock().unwrap_or_else(PoisonError::into_inner);
    let Library {
        handle,
        workspace,
        plans,
    } = &mut *library;
    // C has D's layout, and is D where nothing is added to: its factor is 0 then, and it is not read.
    let pc = places.onto.unwrap_or(pd);
    let stream = device.cuda_stream();
    // The factors of the product and of C, in the type of the sums.
    let [one, zero]: [*const c_void; 2] = match element {
        DType::F64 => [(&raw const ONE.1).cast(), (&raw const ZERO.1).cast()],
        _ => [(&raw const ONE.0).cast(), (&raw const ZERO.0).cast()],
    };
    let scratch = workspace.device_ptr(&stream).0;
    let on = Operands {
        handle: *handle,
        a: pa,
        b: pb,
        c: pc,
        d: pd,
        factors: [one, if places.onto.is_some() { one } else { zero }],
        scratch,
        stream,
    };
    let plan = match plans.entry(key) {
        Entry::Occupied(known) => known.into_mut(),
        // SAFETY: the operands' extents were checked above and D was allocated with its own; the key has their types and alignments.
        Entry::Vacant(new) => new.insert(unsafe { Plan::new(device, &key, places.bias, &on)? }),
    };
    if let Some(bias) = places.bias {
        plan.operation.set_bias(bias)?;
    }
    // SAFETY: as above; the plan was made for these layouts, types and alignments.
    unsafe { plan.run(&plan.algorithm, &on)? };
    Ok(d)
}
