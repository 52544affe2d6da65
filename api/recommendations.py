"""What is recommended for a model, a device and a workload."""

from fastapi import APIRouter

router = APIRouter()
