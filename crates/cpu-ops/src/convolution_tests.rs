use candle_core::{DType, Device, Tensor};

use super::conv2d;
use crate::fixture::normal;
use warpmark_record::agreement::relative_error;

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn random(shape: &[usize], dtype: DType) -> Tensor {
    normal((0.0, 1.0), shape).to_dtype(dtype).unwrap()
}

/// `[batch, channels, height, width, outputs, kernel, stride, padding]`
const CASES: [[usize; 8]; 9] = [
    [2, 4, 8, 8, 6, 3, 1, 1],
    [1, 3, 5, 7, 40, 3, 2, 1],
    [3, 20, 6, 6, 17, 1, 1, 0],
    // More than a tile of pixels, and tiles that end inside a row and inside an image.
    [2, 5, 27, 25, 4, 3, 1, 1],
    [3, 2, 33, 31, 3, 3, 2, 1],
    // More channels than one im2col takes.
    [1, 200, 12, 12, 8, 3, 1, 1],
    [1, 2, 1, 1, 2, 3, 1, 1],
    [2, 3, 4, 2, 5, 3, 2, 0],
    [1, 3, 23, 30, 5, 7, 2, 3],
];

#[test]
fn a_convolution_equals_candles_own_in_every_dtype() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for [batch, channels, height, width, outputs, kernel, stride, padding] in CASES {
            if padding == 0 && width < kernel {
                continue;
            }
            let x = random(&[batch, channels, height, width], dtype);
            let weight = random(&[outputs, channels, kernel, kernel], dtype);
            // One for all images, or, for more than two, one each.
            let rows = if batch > 2 { batch } else { 1 };
            let bias = random(&[rows, outputs], dtype);
            let found = conv2d(&x, &weight, &bias, (stride, padding), false).unwrap();
            let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap();
            let expected = wide(&x)
                .conv2d(&wide(&weight), padding, stride, 1, 1)
                .unwrap()
                .broadcast_add(&wide(&bias).reshape((rows, outputs, 1, 1)).unwrap())
                .unwrap();
            assert_eq!(found.dims(), expected.dims());
            // One rounding of the result; in f32 the order of the sums alone.
            let tolerance = match dtype {
                DType::F32 => 2e-6,
                DType::F16 => 6e-4,
                _ => 5e-3,
            };
            let off = relative_error(&values(&found), &values(&expected));
            assert!(off <= tolerance, "{dtype:?} {channels}x{height}x{width}: {off:e}");
        }
    }
}

#[test]
fn views_are_convolved_as_what_they_show() {
    let x = random(&[2, 6, 9, 9], DType::F32);
    let weight = random(&[4, 3, 3, 3], DType::F32);
    let bias = random(&[1, 4], DType::F32);
    let view = x.narrow(1, 2, 3).unwrap();
    let found = conv2d(&view, &weight, &bias, (1, 1), false).unwrap();
    let expected = conv2d(&view.contiguous().unwrap(), &weight, &bias, (1, 1), false).unwrap();
    assert_eq!(values(&found), values(&expected));
}

#[test]
fn operands_that_do_not_fit_are_refused() {
    let x = random(&[1, 2, 2, 2], DType::F32);
    let bias = random(&[1, 4], DType::F32);
    let kernel = random(&[4, 2, 3, 3], DType::F32);
    assert!(
        conv2d(&x, &kernel, &bias, (1, 0), false).unwrap_err().to_string().contains("does not fit")
    );
    let other = random(&[4, 3, 3, 3], DType::F32);
    assert!(conv2d(&x, &other, &bias, (1, 1), false).is_err());
    let biases = random(&[3, 4], DType::F32);
    assert!(conv2d(&x, &kernel, &biases, (1, 1), false).is_err());
}

#[test]
fn what_is_below_zero_becomes_zero_where_that_is_asked_for_and_no_number_stays_none() {
    let x = random(&[1, 3, 9, 9], DType::F32);
    let weight = random(&[4, 3, 3, 3], DType::F32);
    let bias = Tensor::new(&[[0f32, 1.0, -1.0, f32::NAN]], &Device::Cpu).unwrap();
    let plain = values(&conv2d(&x, &weight, &bias, (1, 1), false).unwrap());
    let cut = values(&conv2d(&x, &weight, &bias, (1, 1), true).unwrap());
    assert!(plain.iter().any(|value| *value < 0.0));
    for (plain, cut) in plain.iter().zip(&cut) {
        let expected = if *plain < 0.0 { 0.0 } else { *plain };
        assert!(expected.to_bits() == cut.to_bits() || (expected.is_nan() && cut.is_nan()));
    }
}
