//! Choices made by the input: what a generator draws, so that libFuzzer's mutations steer it.

/// Reads choices off the input. Past its end everything is 0, which every generator takes for "no more".
pub(crate) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self(input)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.0.len().min(N);
        array[..taken].copy_from_slice(&self.0[..taken]);
        self.0 = &self.0[taken..];
        array
    }

    /// 0 to `most`.
    pub(crate) fn up_to(&mut self, most: u8) -> u8 {
        match most {
            u8::MAX => self.byte(),
            _ => self.byte() % (most + 1),
        }
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Up to `most` bytes as text, whatever they are.
    pub(crate) fn text(&mut self, most: u8) -> String {
        let length = usize::from(self.up_to(most)).min(self.0.len());
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8_lossy(text).into_owned()
    }

    /// Up to `most` things, each made by `make`.
    pub(crate) fn several<T>(&mut self, most: u8, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.up_to(most)).map(|_| make(self)).collect()
    }

    /// A value of a map, byte for byte.
    pub(crate) fn plain<T: aya::Pod>(&mut self) -> T {
        let mut value = std::mem::MaybeUninit::<T>::zeroed();
        let taken = self.0.len().min(size_of::<T>());
        // SAFETY: `taken` bytes are readable there and writable here, which do not overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(self.0.as_ptr(), value.as_mut_ptr().cast::<u8>(), taken);
        }
        self.0 = &self.0[taken..];
        // SAFETY: every byte is set, and every pattern of bytes is a value of such a type.
        unsafe { value.assume_init() }
    }
}
