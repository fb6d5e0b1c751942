#!/usr/bin/env python3
"""Train the network of `vrseg demo`: draw scenes, fit a small U-Net to them, measure it, write it as ONNX.

    pip install torch onnx onnxruntime numpy pillow
    python scripts/train_demo_model.py --out vrseg/demo            # minutes on a GPU, hours on a CPU
    python scripts/train_demo_model.py --out vrseg/demo --seed 1 --start DIR/person.pt  # go on, in new rooms
    python scripts/train_demo_model.py --out /tmp/try --scenes 20 --minutes 0.5   # does it run?

Everything is drawn by `vrseg.demo.scene`; no photograph is read. Training and validation share no seed: training
starts at seed 1 000 000, validation uses small seeds, the demo's own among them. Writes `person.onnx`, `person.pt`
(the weights for further training) and `training.json` (all figures printed).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  everyone calls it F
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from person_net import PersonNet, WithSigmoid

from vrseg.demo.scene import Scene

STORED_WH = (512, 288)
"""Training pictures are drawn at twice this size and kept at this one."""
TRAIN_WH = ((256, 144), (320, 192), (384, 224), (384, 224))
"""The demo's own size twice as often."""
FIRST_TRAINING_SEED = 1_000_000
VALIDATION_SEEDS = tuple(range(24))
FRAMES_PER_SCENE = 8


def draw_scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw some frames of a scene: (n, h, w, 3) RGB and (n, h, w) masks 0 to 255, both uint8, at STORED_WH."""
    rng = np.random.default_rng(seed)
    width, height = STORED_WH
    scene = Scene(seed, 2 * width, 2 * height, figures=int(rng.integers(0, 8)))
    images, masks = [], []
    for index in rng.integers(0, 100_000, FRAMES_PER_SCENE):
        frame = scene.render(int(index))
        image = Image.fromarray(frame.image_hwc).reduce(2)
        if rng.random() < 0.4:
            file = io.BytesIO()
            image.save(file, "JPEG", quality=int(rng.integers(25, 90)))
            image = Image.open(file)
        images.append(np.asarray(image))
        masks.append(np.asarray(Image.fromarray(frame.mask * 255).reduce(2)))
    return np.stack(images), np.stack(masks)


def draw_training_set(scenes: int, workers: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `scenes` scenes: (n, 3, h, w) and (n, 1, h, w), uint8, on the host."""
    width, height = STORED_WH
    images = torch.empty(scenes * FRAMES_PER_SCENE, height, width, 3, dtype=torch.uint8)
    masks = torch.empty(scenes * FRAMES_PER_SCENE, height, width, dtype=torch.uint8)
    first = FIRST_TRAINING_SEED + seed * 100_000
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        drawn = pool.imap_unordered(draw_scene, range(first, first + scenes), chunksize=2)
        for number, (image, mask) in enumerate(drawn):
            place = slice(number * FRAMES_PER_SCENE, (number + 1) * FRAMES_PER_SCENE)
            images[place], masks[place] = torch.from_numpy(image), torch.from_numpy(mask)
    return images.permute(0, 3, 1, 2), masks[:, None]


def augment(images: Tensor, masks: Tensor, size_wh: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Turn stored pictures into training pictures: float, (N, 3, h, w) and (N, 1, h, w), both 0 to 1."""
    x, y = images.float() / 255, masks.float() / 255
    n, device = len(x), x.device

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(n, *(shape or (1, 1, 1)), device=device).uniform_(low, high)

    # People of one room stand in another as well: cut out, moved, pasted.
    pasted = (uniform(0, 1) < 0.3).float() * y.roll(1, 0)
    x, y = x * (1 - pasted) + x.roll(1, 0) * pasted, torch.maximum(y, pasted)

    zoom = torch.exp(uniform(math.log(0.55), math.log(1.5), 1))
    theta = torch.zeros(n, 2, 3, device=device)
    flip = torch.where(uniform(0, 1, 1) < 0.5, -1.0, 1.0)
    tilt = uniform(-0.12, 0.12, 1)
    theta[:, 0, :2] = torch.cat([flip * zoom * uniform(0.85, 1.15, 1), tilt * zoom], 1)
    theta[:, 1, :2] = torch.cat([-flip * tilt * zoom, zoom], 1)
    theta[:, :, 2] = uniform(-1, 1, 2) * (1 - zoom).abs()
    width, height = size_wh
    grid = F.affine_grid(theta, [n, 1, 2 * height, 2 * width], align_corners=False)
    both = F.grid_sample(torch.cat([x, y], 1), grid, padding_mode="reflection", align_corners=False)
    both = F.avg_pool2d(both, 2)
    x, y = both[:, :3], both[:, 3:]

    soft = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    x = torch.lerp(x, soft, (uniform(0, 1) < 0.3).float() * uniform(0, 1))
    grey = x.mean(1, keepdim=True)
    x = torch.lerp(grey, x, uniform(0.0, 1.5))
    x = (x - 0.5) * uniform(0.6, 1.4) + 0.5 + uniform(-0.15, 0.15)
    x = x * uniform(0.85, 1.15, 3, 1, 1)
    x = x.clamp(1e-4, 1) ** torch.exp(uniform(-0.4, 0.4))
    # Sometimes with the channels swapped: no hue may stand for a person.
    x = torch.where(uniform(0, 1) < 0.15, x[:, torch.randperm(3, device=device)], x)
    return (x + torch.randn_like(x) * uniform(0, 0.04)).clamp(0, 1), y


def loss_of(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy plus soft Dice over the batch."""
    probability = torch.sigmoid(logits)
    dice = 1 - (2 * (probability * truth).sum() + 1) / (probability.sum() + truth.sum() + 1)
    return F.binary_cross_entropy_with_logits(logits, truth) + dice


def train(images: Tensor, masks: Tensor, options: argparse.Namespace) -> PersonNet:
    """Fit a new net for `options.minutes`; returns the moving average of its weights."""
    device = torch.device(options.device)
    net = PersonNet()
    if options.start is not None:
        net.load_state_dict(torch.load(options.start, map_location="cpu", weights_only=True))
    net = net.to(device).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    optimiser = torch.optim.AdamW(net.parameters(), lr=options.rate, weight_decay=0.02)
    start, share, step = time.monotonic(), 0.0, 0
    while share < 1:
        share = (time.monotonic() - start) / (60 * options.minutes)
        for group in optimiser.param_groups:
            group["lr"] = options.rate * min(1, step / 300) * (0.5 + 0.5 * math.cos(math.pi * min(share, 1)))
        pick = torch.randint(len(images), (options.batch,), device=images.device)
        size = TRAIN_WH[int(torch.randint(len(TRAIN_WH), ()))]
        x, y = augment(images[pick].to(device), masks[pick].to(device), size)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(x.to(memory_format=torch.channels_last))
        loss = loss_of(logits.float(), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(net)
        if step % 500 == 0:
            print(f"step {step}  {share:4.0%}  loss {loss.item():.4f}", flush=True)
        step += 1
    print(f"{step} steps of {options.batch} pictures", flush=True)
    trained: PersonNet = average.module.cpu().eval().to(memory_format=torch.contiguous_format)
    return trained


def draw_validation(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw six 1280x720 frames of a scene as the demo shows it: image and mask."""
    scene = Scene(seed)
    frames = [scene.render(90 * number + 7) for number in range(6)]
    return [(frame.image_hwc, frame.mask) for frame in frames]


def measure(path: Path, workers: int) -> dict[str, dict[str, float]]:
    """Give IoU and time of the written network at several input sizes, judged at 1280x720, 24 unseen seeds."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        scenes = pool.map(draw_validation, VALIDATION_SEEDS, chunksize=1)
    figures = {}
    for width, height in ((256, 144), (320, 176), (320, 192), (384, 224), (512, 288)):
        shared, either, times = np.zeros(len(scenes)), np.zeros(len(scenes)), []
        for number, frames in enumerate(scenes):
            for image, mask in frames:
                small = Image.fromarray(image).resize((width, height), Image.Resampling.BOX)
                tensor = np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255
                start = time.process_time()
                (scores,) = session.run(None, {"image": tensor})
                times.append(1000 * (time.process_time() - start))
                full = Image.fromarray(scores[0, 0]).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
                found = np.asarray(full) > 0.5
                shared[number] += (found & (mask > 0)).sum()
                either[number] += (found | (mask > 0)).sum()
        figures[f"{width}x{height}"] = {
            "iou": round(float(shared.sum() / either.sum()), 4),
            "iou_demo_seed": round(float(shared[0] / either[0]), 4),
            "iou_worst_seed": round(float((shared / either).min()), 4),
            "ms_one_core": round(float(np.median(times)), 2),
        }
        print(f"{width}x{height}: {figures[f'{width}x{height}']}", flush=True)
    return figures


def export(net: PersonNet, path: Path) -> None:
    """Write ONNX, opset 17, with free batch, height and width, and check it against the net itself."""
    import onnx
    import onnxruntime

    model = WithSigmoid(net).eval()
    axes = {0: "batch", 2: "height", 3: "width"}
    torch.onnx.export(
        model,
        (torch.rand(1, 3, 192, 320),),
        str(path),
        input_names=["image"],
        output_names=["mask"],
        dynamic_axes={"image": axes, "mask": axes},
        opset_version=17,
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((1, 3, 144, 256), (3, 3, 192, 320), (2, 3, 48, 80)):
        image = torch.rand(shape)
        with torch.inference_mode():
            wanted = model(image).numpy()
        (given,) = session.run(None, {"image": image.numpy()})
        error = float(np.abs(wanted - given).max())
        if given.shape != wanted.shape or error > 1e-4:
            raise SystemExit(f"{path} differs from the net it was made from by {error} at {shape}")
    print(f"{path}: {path.stat().st_size} bytes, agrees with torch at three shapes")


def main() -> None:
    """Draw, train, export, measure; or only the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--out", type=Path, help="train, and write person.onnx into this folder")
    task.add_argument("--measure", type=Path, metavar="ONNX", help="only measure a network")
    parser.add_argument("--scenes", type=int, default=4000, help=f"rooms to draw, {FRAMES_PER_SCENE} frames each")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to train, drawing not counted")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3, help="highest learning rate")
    parser.add_argument("--start", type=Path, help="weights of an earlier run, person.pt, to go on from")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other rooms")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.measure is not None:
        measure(options.measure, options.workers)
        return
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    start = time.monotonic()
    images, masks = draw_training_set(options.scenes, options.workers, options.seed)
    print(f"{len(images)} pictures drawn in {time.monotonic() - start:.0f} s", flush=True)
    net = train(images.to(options.device), masks.to(options.device), options)
    torch.save(net.state_dict(), options.out / "person.pt")
    export(net, options.out / "person.onnx")
    figures = {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu",
        "options": {key: str(value) for key, value in vars(options).items()},
        "parameters": sum(p.numel() for p in net.parameters()),
        "validation": measure(options.out / "person.onnx", options.workers),
    }
    (options.out / "training.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
