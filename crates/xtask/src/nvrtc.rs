//! NVRTC: source of a kernel in, PTX out. A library of C, loaded from where it was installed.
#![allow(unsafe_code)] // calls it

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null;

use libloading::Library;

/// Contraction is off: what is fused stands in the source, and no compiler's taste changes a bit.
const OPTIONS: [&str; 3] = ["--gpu-architecture=compute_80", "--std=c++17", "--fmad=false"];

type Program = *mut c_void;
type Names = *const *const c_char;
// SAFETY: these are the types that nvrtc.h declares.
type Create =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Names, Names) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, Names) -> c_int;
// SAFETY: as above.
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

/// The compiler.
pub struct Nvrtc {
    library: Library,
}

impl Nvrtc {
    /// Loads it.
    pub fn open(path: &Path) -> Result<Self, String> {
        // SAFETY: NVIDIA's own library; loading it runs its initialisers and nothing else.
        let library = unsafe { Library::new(path) };
        Ok(Self { library: library.map_err(|error| error.to_string())? })
    }

    /// Compiles one source; the error is what the compiler says.
    pub fn compile(&self, name: &str, source: &str) -> Result<String, String> {
        let text = |text: &str| CString::new(text).map_err(|error| error.to_string());
        let (name, source) = (text(name)?, text(source)?);
        let options = OPTIONS.map(|option| CString::new(option).expect("no NUL"));
        let options = options.each_ref().map(|option| option.as_ptr());
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: functions have the types that nvrtc.h declares; strings end in NUL and outlive
        // the calls; `program` is made first and destroyed last.
        unsafe {
            let create = self
                .library
                .get::<Create>("nvrtcCreateProgram")
                .map_err(|error| missing(&error))?;
            let compile = self
                .library
                .get::<Compile>("nvrtcCompileProgram")
                .map_err(|error| missing(&error))?;
            let destroy = self
                .library
                .get::<Destroy>("nvrtcDestroyProgram")
                .map_err(|error| missing(&error))?;
            let (source, name) = (source.as_ptr(), name.as_ptr());
            if create(&raw mut program, source, name, 0, null(), null()) != 0 {
                return Err("nvrtcCreateProgram failed".into());
            }
            let code = compile(program, options.len() as c_int, options.as_ptr());
            let outcome = if code == 0 {
                self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
            } else {
                Err(self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")?)
            };
            destroy(&raw mut program);
            outcome
        }
    }

    fn text(&self, program: Program, size: &str, text: &str) -> Result<String, String> {
        let mut len = 0;
        // SAFETY: as in `compile`; the buffer has the length that the library asked for.
        let bytes = unsafe {
            self.library.get::<Size>(size).map_err(|error| missing(&error))?(program, &raw mut len);
            let mut bytes = vec![0_u8; len];
            self.library.get::<Text>(text).map_err(|error| missing(&error))?(
                program,
                bytes.as_mut_ptr().cast(),
            );
            bytes
        };
        let text = String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string();
        Ok(text)
    }
}

fn missing(error: &libloading::Error) -> String {
    format!("NVRTC: {error}")
}
