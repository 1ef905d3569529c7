"""Backbones: timm, CIFAR ResNets and packaged ImageNet weights."""
