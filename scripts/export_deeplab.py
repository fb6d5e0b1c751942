"""Write DeepLabV3-ResNet50 as ONNX in FP16, for the GPU benchmarks.

The weights are random: the speed of the network does not depend on them. The speed of drawing does, on whether one
class leads clearly. So the last layer is scaled until it does, as in a network that was trained.

    python scripts/export_deeplab.py OUT.onnx [--size 512]

Needs PyTorch and torchvision; beside the model it writes its description.
"""

from __future__ import annotations

import argparse
from pathlib import Path

CLEAR_LEAD = 12.0
"""Of logits: the best class then has all but 0.001 % of the probability."""
DESCRIPTION = """\
title: DeepLabV3-ResNet50, random weights
task: segment
input: {color: rgb, scale: 0.00392156862745098, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], fit: stretch}
output: {decode: logits}
classes: [{name: background, background: true}, CLASSES]
"""


def main() -> None:
    """Export."""
    import onnx
    import torch
    from torchvision.models.segmentation import deeplabv3_resnet50

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=512)
    asked = parser.parse_args()

    class OneOutput(torch.nn.Module):
        """The network without its auxiliary head's answer."""

        def __init__(self) -> None:
            super().__init__()
            self.network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=21)

        def forward(self, picture: torch.Tensor) -> torch.Tensor:
            return self.network(picture)["out"]

    torch.manual_seed(0)
    network = OneOutput().eval().cuda()
    with torch.no_grad():
        noise = torch.rand(1, 3, asked.size, asked.size, device="cuda")
        best, second = network(noise).topk(2, dim=1).values[0]
        last = network.network.classifier[-1]
        last.weight *= CLEAR_LEAD / (best - second).median()
        last.bias *= 0
    network = network.half()
    picture = torch.zeros(2, 3, asked.size, asked.size, dtype=torch.half, device="cuda")
    torch.onnx.export(
        network,
        (picture,),
        str(asked.out),
        input_names=["picture"],
        output_names=["scores"],
        dynamic_axes={"picture": {0: "batch"}, "scores": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(asked.out)
    batch, *sizes = model.graph.output[0].type.tensor_type.shape.dim
    batch.dim_param = "batch"
    for known, size in zip((21, asked.size, asked.size), sizes, strict=True):
        size.dim_value = known
    onnx.save(model, asked.out)
    classes = ", ".join(f"class{number}" for number in range(1, 21))
    asked.out.with_suffix(".yaml").write_text(DESCRIPTION.replace("CLASSES", classes))


if __name__ == "__main__":
    main()
