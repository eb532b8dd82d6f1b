# Makes the bucket of artifacts, and the user whom coordinators are to MinIO. What is there already stays.
set -eu
mc alias set store http://minio:9000 "$MINIO_ROOT_USER" "$MINIO_ROOT_PASSWORD" > /dev/null
mc mb --ignore-existing store/penstock
mc admin policy create store artifacts /etc/penstock/artifacts-policy.json
mc admin user add store "$ARTIFACTS_ACCESS_KEY" "$ARTIFACTS_SECRET_KEY"
# To attach a policy that is attached is an error to MinIO.
case $(mc admin user info store "$ARTIFACTS_ACCESS_KEY") in
    *artifacts*) ;;
    *) mc admin policy attach store artifacts --user "$ARTIFACTS_ACCESS_KEY" ;;
esac
